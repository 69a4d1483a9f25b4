# The embedded dataset (tools/make_shapes.py), small enough for one CPU core. Settings: ours.
import os

_base_ = ["_base_/upernet.py", "_base_/folders.py", "_base_/run.py"]

data_root = os.environ.get("DETECTRON2_DATASETS", "datasets") + "/ADEChallengeData2016"
train_images = "images/training"
train_labels = "annotations/training"
val_images = "images/validation"
val_labels = "annotations/validation"
image_suffix = None
label_suffix = ".png"
dataset = "shapes"  # the folders are laid out as ADE20K's
classes = "shapes3"  # make_shapes.py --level hard draws "shapes9"
reduce_zero_label = True  # label 0 = other

crop_size = (128, 128)  # height, width
scale = (1024, 128)  # longest side, shortest side
scale_range = (0.75, 1.5)
train_pipeline = [  # without PhotoMetricDistortion, which a short run does not need
    dict(type="LoadImageFromFile"),
    dict(type="LoadLabels"),
    dict(type="RandomResize", scale="${scale}", ratio_range="${scale_range}", keep_ratio=True),
    dict(type="RandomCrop", crop_size="${crop_size}", cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
head_channels = 32
aux_channels = 64
model = dict(  # with MMSegmentation's 0.01 a short run ends before a rare class can win a pixel
    decode_head=dict(init_cfg=dict(type="Normal", std=0.3, override=dict(name="conv_seg"))),
)

batch_size = 4
max_iters = 240
warmup_iters = 30
lr = 3e-3
layer_decay = 1.0
weight_decay = 0.05
clip_norm = 3.0
workers = 0
log_steps = 20
checkpoint_steps = 50
