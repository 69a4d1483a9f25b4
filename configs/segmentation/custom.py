# Any folder of images and label PNGs:
#   python tools/train_seg.py configs/segmentation/custom.py --work-dir OUT --cfg-options \
#     data_root=DATA classes=background,nucleus weights=encoder.safetensors
# Sizes and schedule: ours, for small data on a CPU.
_base_ = ["_base_/upernet.py", "_base_/folders.py", "_base_/run.py"]

data_root = None  # the folder that holds the four folders below
train_images = "images/train"
train_labels = "labels/train"
val_images = "images/val"
val_labels = "labels/val"
image_suffix = None  # None: the one that the images have
label_suffix = ".png"
classes = []  # names in the order of the label values, or a text file with one name a line
reduce_zero_label = False  # True: label 0 is ignored and label 1 is the first class

# Whole images are tested: with much smaller crops than this, nets that look at all of an image
# (ViTs, ConvNeXt V2) meet something new there.
crop_size = (96, 96)  # height, width
scale = (1024, 256)  # images are resized to fit: longest side, shortest side
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
# MMSegmentation draws the classifier with std 0.01: the most frequent class then claims every
# feature in the first steps, and a short run ends before a rare class can win a pixel.
model = dict(
    decode_head=dict(init_cfg=dict(type="Normal", std=0.3, override=dict(name="conv_seg"))),
)

batch_size = 8  # BatchNorm needs several images where they are unlike
max_iters = 250
warmup_iters = 40
lr = 3e-3  # of the fresh heads
layer_decay = 0.75  # the lower layers of every family learn slower
weight_decay = 0.05
clip_norm = 3.0
workers = 0
log_steps = 20
checkpoint_steps = 100
