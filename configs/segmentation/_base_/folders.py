# Images beside label maps. The training pipeline is MMSegmentation's for ADE20K.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadLabels"),
    dict(type="RandomResize", scale="${scale}", ratio_range="${scale_range}", keep_ratio=True),
    dict(type="RandomCrop", crop_size="${crop_size}", cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
scale_range = (0.5, 2.0)

# Evaluation: the "whole" image, or "slide" a window of crop_size by `stride`
test_mode = "whole"
stride = None
tta = dict(  # multi-scale test
    on=False,
    ratios=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),  # of `scale`
    flip=True,  # each ratio with its mirror image
    resize="keep_ratio",  # "at_least_crop": the short side is never below the crop's
    mode=None,  # "whole" or "slide"; None: test_mode
)
test_cfg = dict(mode="${evaluation_mode}", crop_size="${crop_size}", stride="${stride}")

test_pipeline = [  # labels after Resize: figures are taken at the size of the file
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale="${scale}", keep_ratio=True),
    dict(type="LoadLabels"),
    dict(type="PackSegInputs", meta_keys="${meta_keys}"),
]
meta_keys = (
    "img_path",
    "image_name",
    "seg_map_path",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "reduce_zero_label",
)
val_limit = None  # evaluate only so many images, the first ones
train_share = 1.0  # of the training images: those of the lowest SHA-256 of the file name

train_dataloader = dict(
    batch_size="${device_batch}",
    num_workers="${workers}",
    pin_memory="${pin_memory}",
    sampler=dict(type="PositionSampler", batch_size="${device_batch}"),
    dataset=dict(
        type="LabelledImages",
        data_root="${data_root}",
        images="${train_images}",
        labels="${train_labels}",
        classes="${classes}",
        palette="${palette}",
        image_suffix="${image_suffix}",
        label_suffix="${label_suffix}",
        reduce_zero_label="${reduce_zero_label}",
        pipeline="${train_pipeline}",
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers="${workers}",
    pin_memory="${pin_memory}",
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),  # each image once
    dataset=dict(
        type="LabelledImages",
        data_root="${data_root}",
        images="${val_images}",
        labels="${val_labels}",
        classes="${classes}",
        palette="${palette}",
        image_suffix="${image_suffix}",
        label_suffix="${label_suffix}",
        reduce_zero_label="${reduce_zero_label}",
        limit="${val_limit}",
        test_mode=True,
        pipeline="${evaluation_pipeline}",
    ),
)
