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
views = "single"  # "multiscale": all of test_ratios, each with its mirror image
test_ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
test_resize = "keep_ratio"  # of views; "at_least_crop": the short side is never below the crop's
test_cfg = dict(mode="${test_mode}", crop_size="${crop_size}", stride="${stride}")

test_pipeline = [  # labels after Resize: figures are taken at the size of the file
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale="${scale}", keep_ratio=True),
    dict(type="LoadLabels"),
    dict(type="PackSegInputs", meta_keys="${meta_keys}"),
]
meta_keys = (
    "img_path", "seg_map_path", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip",
    "flip_direction", "reduce_zero_label",
)  # fmt: skip
val_limit = None  # evaluate the first images alone

train_dataloader = dict(
    batch_size="${device_batch}",
    num_workers="${workers}",
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
    sampler=dict(type="DefaultSampler", shuffle=False),
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
