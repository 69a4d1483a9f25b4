"""LVIS v1 instead of COCO: an addition to any config here.

Source: facebookresearch/detectron2 configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml.
It also draws images with rare categories more often (repeat factor 0.001); here every image is
drawn once per epoch.
"""


def lvis(config):
    """Turn a config's data into LVIS v1, whose images are COCO 2017's."""
    config.data.update(
        name="lvis_v1",
        train_json="{root}/lvis/lvis_v1_train.json",
        train_images="{root}/coco",  # the validation images come from both folders of COCO
        val_json="{root}/lvis/lvis_v1_val.json",
        val_images="{root}/coco",
    )
    config.model.update(score_threshold=1e-4, max_detections=300)
