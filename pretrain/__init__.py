"""Images -> encoder file: masked image modelling for convnets and ViTs.

Follow one image through the package:

    config.py      the recipe: every setting; origins.py, explain.py tell where each comes from
    command.py     the command line of tools/pretrain.py; folder.py: the folder of a run
    sources.py     a folder, list or shards -> images by number, the unreadable ones found first
    augment.py, data.py    crops and masks keyed by (seed, epoch, image) -> batches
    masking.py     which patches the encoder sees
    encoders.py    a timm encoder by name -> its stages, channels and strides
    sparse/        the visible patches as the batch
    spark.py, fcmae.py, beit.py    one method a file: the paper, its equations, its loss
    tokenizer.py   the discrete VAE behind BEiT's tokens: dalle.py its networks,
                   train_tokenizer.py its loop, codebook.py the codes in use,
                   convert_dalle.py DALL-E's released files
    methods.py     the methods by name
    optim.py, schedule.py    parameter groups; learning rate and weight decay by step
    start.py       devices, checked images and first weights, before the first step
    train.py       the loop, readable top to bottom; report.py: its log, TensorBoard and progress
    batch_norm.py  BatchNorm over all processes
    pictures.py    input, masked, prediction pasted in, raw prediction
    checkpoint.py  the encoder file (what transfer reads) and the training state (what resume reads)

Shapes in comments and docstrings: B batch, C channels, H W pixels, h w patch grid,
n visible patches, p pixels along a patch's side.
"""

__version__ = "0.1.0"
