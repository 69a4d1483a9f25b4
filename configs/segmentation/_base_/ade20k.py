# ADE20K, 150 classes, and what the published UperNet runs share: 160k steps of 16 images, AdamW,
# linear warm-up over 1500 steps from 1e-6, then linear to 0 (unilm beit/semantic_segmentation,
# ConvNeXt semantic_segmentation/configs, mmsegmentation configs/mae).
import os

_base_ = ["folders.py", "run.py"]

dataset = "ADE20K"
data_root = os.environ.get("DETECTRON2_DATASETS", "datasets") + "/ADEChallengeData2016"
train_images = "images/training"
train_labels = "annotations/training"
val_images = "images/validation"
val_labels = "annotations/validation"
image_suffix = ".jpg"
label_suffix = ".png"
classes = "ade20k"
reduce_zero_label = True  # 0 = other is ignored; transfer/segmentation/labels.py

crop_size = (512, 512)  # height, width
scale = (2048, 512)  # longest side, shortest side
stride = (341, 341)  # sliding window: two thirds of the crop
test_mode = "slide"

batch_size = 16  # 8 devices of 2 images; 160_000 * 16 / 20_210 = 126.7 epochs
max_iters = 160_000
warmup_iters = 1500
weight_decay = 0.05
workers = 4
checkpoint_steps = 2000
tensorboard = True
