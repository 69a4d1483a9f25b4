"""Images -> encoder file: masked image modelling for convnets and ViTs.

command.py     the command line: a recipe, overrides, the run
prepare.py     what a run needs before its first step: first weights, tokenizer
train.py       the pretraining run
encoders.py    a timm encoder by name -> its stages, channels and strides
schedule.py    parameter groups; learning rate and weight decay by step
probe.py       figures of the encoder every few epochs
pictures.py    input, masked, prediction pasted in, raw prediction

config/        every setting, its source beside it
data/          images -> batches
methods/       one file per method: SparK, FCMAE, BEiT
tokenizer/     the discrete VAE behind BEiT's tokens
sparse/        the visible patches as the batch
kernels/       C kernels and CPU convolutions

files/, run/, checks/ and encoders.py are the ground: transfer stands on them too, and they import
nothing of the project above themselves.

Shapes in comments and docstrings: B batch, C channels, H W pixels, h w patch grid,
n visible patches, p pixels along a patch's side.
"""

__version__ = "0.1.0"
