"""Images -> encoder file: masked image modelling for convnets and ViTs.

Follow one image through the package:

    data.py        a folder, list or shards of images -> augmented batches and their masks
    masking.py     which patches the encoder sees
    encoders.py    a timm encoder by name -> its stages, channels and strides
    sparse.py      the visible patches as the batch
    spark.py, fcmae.py, beit.py    one method a file: the paper, its equations, its loss
    tokenizer.py   the discrete VAE behind BEiT's tokens
    methods.py     the methods by name
    optim.py, schedule.py    parameter groups; learning rate and weight decay by step
    train.py       the loop, readable top to bottom
    checkpoint.py  the encoder file (what transfer reads) and the training state (what resume reads)

Shapes in comments and docstrings: B batch, C channels, H W pixels, h w patch grid,
n visible patches, p pixels along a patch's side.
"""

__version__ = "0.1.0"
