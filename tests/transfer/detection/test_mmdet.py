"""What MMDetection's detectors compute in another way than Detectron2's."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("transfer.detection")  # puts back what Detectron2 imports
pytest.importorskip("detectron2")
from detectron2.modeling.box_regression import Box2BoxTransform

from tests.transfer.detection.conftest import TINY
from transfer.detection.build import build_detector
from transfer.detection.config import load_config, protocol_of
from transfer.detection.mmdet import ResizeShortestEdgeByOpenCV, bounded_transform
from transfer.detection.released import CONFIGS, resize_as_mmdetection

CONFIG = CONFIGS / "shapes_mask_rcnn.py"


def test_boxes_shrink_no_more_than_they_grow():
    """By hand: the size is multiplied by 16 / 1000 at least and 1000 / 16 at most."""
    box = torch.tensor([[10.0, 20.0, 110.0, 70.0]])
    deltas = torch.tensor([[1.0, -2.0, -90.0, 90.0, 0.5, 0.5, -3.0, 2.0]])
    found = bounded_transform((0.1, 0.1, 0.2, 0.2)).apply_deltas(deltas, box)
    x, y, half_w, half_h = 60 + 10, 45 - 10, 100 * 0.016 / 2, 50 / 0.016 / 2
    first = [x - half_w, y - half_h, x + half_w, y + half_h]
    x, y, half_w, half_h = 60 + 5, 45 + 2.5, 50 * math.exp(-0.6), 25 * math.exp(0.4)
    second = [x - half_w, y - half_h, x + half_w, y + half_h]
    torch.testing.assert_close(found, torch.tensor([[*first, *second]]), rtol=1e-5, atol=1e-3)
    theirs = Box2BoxTransform((10, 10, 5, 5)).apply_deltas(deltas, box)
    assert theirs[0, 2] - theirs[0, 0] < 1e-3
    torch.testing.assert_close(theirs[0, 4:], found[0, 4:])


@pytest.mark.parametrize("size", [(480, 640), (427, 640), (640, 233), (1500, 90)])
def test_images_are_resized_as_by_mmcv(size):
    image_of = pytest.importorskip("mmcv.image")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resize = ResizeShortestEdgeByOpenCV(800, 1333).get_transform(image)
    wanted = image_of.imrescale(image, (1333, 800))
    np.testing.assert_array_equal(resize.apply_image(image), wanted)
    box = resize.apply_box(np.array([[0, 0, size[1], size[0]]]))[0]
    assert (box[2], box[3]) == pytest.approx((wanted.shape[1], wanted.shape[0]))


def test_a_cascade_regresses_each_class_and_is_only_evaluated():
    more = ["model.cascade=true", "model.arithmetic=mmdetection", "data.root=x"]
    config = load_config(CONFIG, [*TINY, *more], training=False)
    model = build_detector(config, 2).model
    last = model.roi_heads.box_predictor[2]
    assert last.bbox_pred.out_features == 8
    assert last.box2box_transform.weights == pytest.approx((1 / 0.033,) * 2 + (1 / 0.067,) * 2)
    assert len(model.roi_heads.mask_head) == 3
    with pytest.raises(ValueError, match="only evaluated"):
        model.roi_heads._forward_box({}, [])


def test_the_protocol_names_it_where_it_is_not_detectron2s():
    plain = load_config(CONFIG, ["data.root=x"], training=False)
    assert "arithmetic" not in protocol_of(plain)["model"]
    assert not {"stride_in_1x1", "decomposed_position"} & {*protocol_of(plain)["features"]}
    other = load_config(CONFIG, ["data.root=x", "model.arithmetic=mmdetection"], training=False)
    assert protocol_of(other)["model"]["arithmetic"] == "mmdetection"


def test_other_test_transforms_are_refused():
    config = load_config(CONFIGS / "convnext_tiny_3x.py", ["data.root=x"], training=False)
    resize_as_mmdetection(config)
    assert config.input.test[0].short_edge_length == 800
    config.input.test = []
    with pytest.raises(ValueError, match="after one resize alone"):
        resize_as_mmdetection(config)
