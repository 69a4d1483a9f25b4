"""Test-time augmentation: several sizes and flips, boxes merged, masks averaged (Detectron2's)."""

from typing import Any

from detectron2.config import get_cfg
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA
from torch import nn


def with_tta(model: GeneralizedRCNN, sizes: list[int], max_size: int, flip: bool) -> nn.Module:
    """`model` behind Detectron2's GeneralizedRCNNWithTTA: short sides `sizes`, in pixels."""
    heads = model.roi_heads
    predictor: Any = heads.box_predictor
    last = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = bool(heads.mask_on)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = heads.num_classes
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = last.test_nms_thresh
    cfg.TEST.DETECTIONS_PER_IMAGE = last.test_topk_per_image
    return GeneralizedRCNNWithTTA(cfg, model, DatasetMapperTTA(sizes, max_size, flip))
