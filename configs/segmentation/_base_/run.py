# What every segmentation run shares: weights, length, optimizer, checkpoints, log.
# A value "${name}" is the top-level key `name`, filled in after the command line's options.
default_scope = "mmseg"

weights = "none"  # a weights file; "none": from scratch; control:shuffled:FILE, control:random
arch = None  # timm architecture; None: the one of the weights file
arch_args = dict()  # arguments of timm.create_model
fresh = []  # encoder tensors (patterns) that the weights file need not have
unused = []  # tensors (patterns) of the weights file that may be left out
allow_findings = []  # findings of the data check to ignore, by code
seed = 0
dataset = None  # its name in the record; None: the folder's

sync_bn = True  # BatchNorm layers use the statistics of all processes
budget = "full"  # "quarter" of the steps; "debug": 20 steps, 8 evaluation images
precision = "fp32"  # "bf16"; "fp16" with loss scaling, on a GPU alone
accumulation_steps = 1  # forward passes per optimizer step; batch_size counts all of them
workers = 4  # loading processes of each training process
log_steps = 50  # steps per line of the log
checkpoint_steps = 2000  # steps between checkpoints
eval_steps = None  # steps between evaluations whose best state is kept; None: at the end alone
tensorboard = False
save_predictions = False  # write the predicted label maps of the evaluation as PNG

train_cfg = dict(
    type="IterBasedTrainLoop", max_iters="${forward_passes}", val_interval="${evaluation_passes}"
)
val_cfg = dict(type="ValLoop")
val_evaluator = dict(type="ExactIoU")

optim_wrapper = dict(
    type="FiniteOptimWrapper",  # another one with precision bf16 or fp16
    accumulative_counts="${accumulation_steps}",
    optimizer=dict(type="AdamW", lr="${lr}", betas=(0.9, 0.999), weight_decay="${weight_decay}"),
    clip_grad="${clip_grad}",
    constructor="LayerDecayConstructor",
    paramwise_cfg=dict(
        decay="${layer_decay}", rule="${layer_decay_rule}", no_weight_decay="${no_weight_decay}"
    ),
)
clip_norm = None  # largest norm of all gradients together; None: off
no_weight_decay = "vectors"  # spared: norms and biases, all that is 1-D; "nothing": none of it
ema_decay = None  # e.g. 0.9999: evaluate an exponential moving average of the weights; None: off
layer_decay_rule = "auto"  # of transfer/features/layer_decay.py; "auto": the architecture's
param_scheduler = [  # mmcv 0.x lr_config: policy="poly", warmup="linear", warmup_ratio=1e-6
    dict(
        type="WarmupPolyLR",
        power=1.0,
        min_lr=0.0,
        warmup_ratio=1e-6,
        warmup="${warmup_passes}",
        end="${forward_passes}",
    ),
]
