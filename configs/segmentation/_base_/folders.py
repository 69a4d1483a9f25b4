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
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale="${scale}", keep_ratio=True),
    dict(type="LoadLabels"),  # after Resize: figures are taken at the size of the file
    dict(
        type="PackSegInputs",
        meta_keys=(
            "img_path", "seg_map_path", "ori_shape", "img_shape", "pad_shape", "scale_factor",
            "flip", "flip_direction", "reduce_zero_label",
        ),
    ),
]  # fmt: skip

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
        test_mode=True,
        pipeline="${test_pipeline}",
    ),
)
