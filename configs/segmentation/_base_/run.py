# What every segmentation run shares: weights, length, optimizer, checkpoints, log.
# A value "${name}" is the top-level key `name`, filled in after the command line.
default_scope = "mmseg"

weights = "none"  # an encoder file; "none": from scratch
arch = None  # timm architecture; None: the one of the weights file
arch_args = dict()  # arguments of timm.create_model
fresh = []  # encoder tensors (patterns) that the weights file need not have
unused = []  # tensors (patterns) of the weights file that may be left out
allow_findings = []  # codes of data findings to train on in spite of
seed = 0
dataset = None  # its name in the record; None: the folder's

sync_bn = True  # BatchNorm layers use the statistics of all processes
budget = "full"  # "quarter" of the steps; "debug": 20 steps, 8 evaluation images
amp = False
amp_dtype = "bfloat16"  # the published runs: float16 with loss scaling, which needs a GPU
accumulation = 1  # forward passes an optimizer step; batch_size counts all of them
workers = 4  # loading processes of each training process
log_interval = 50  # steps
save_interval = 2000  # steps between checkpoints
tensorboard = False
save_predictions = False  # write the predicted label maps of the evaluation as PNG

train_cfg = dict(type="IterBasedTrainLoop", max_iters="${forward_passes}", val_interval=10**9)
val_cfg = dict(type="ValLoop")
val_evaluator = dict(type="ExactIoU")

optim_wrapper = dict(
    type="FiniteOptimWrapper",  # another one with amp=True
    accumulative_counts="${accumulation}",
    optimizer=dict(type="AdamW", lr="${lr}", betas=(0.9, 0.999), weight_decay="${weight_decay}"),
    clip_grad="${clip_grad}",
    constructor="LayerDecayConstructor",
    paramwise_cfg=dict(decay="${layer_decay}", rule="${decay_rule}", norms="${decay_norms}"),
)
clip_grad = None
decay_norms = False  # weight decay for norms and biases as well
ema = None  # e.g. 0.9999: evaluate an exponential moving average of the weights
decay_rule = None  # None: the family of the architecture
param_scheduler = [  # MMEngine moves on with every forward pass
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end="${warmup_passes}"),
    dict(
        type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False,
        begin="${warmup_passes}", end="${forward_passes}",
    ),
]  # fmt: skip
