"""The cascade's two weighings, and Soft-NMS behind it."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from tests.transfer.detection.test_recipes import load
from transfer.detection.box_layers import SoftNMSOutputLayers
from transfer.detection.build import build_detector
from transfer.detection.cascade import cascade_heads

SMALL = (
    "arch=convnext_atto",
    'arch_args={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}',
    "model.channels=16",
    "model.box_convs=[8]",
    "model.box_fcs=[16]",
    "model.mask_convs=[8]",
    "model.roi_batch=16",
)
SOFT = '{"method": "gaussian", "iou_threshold": 0.5, "sigma": 0.5, "min_score": 0.0}'


def truth(size: tuple[int, int]) -> Instances:
    found = Instances(size)
    found.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 40], [20, 10, 60, 60]]))
    found.gt_classes = torch.tensor([0, 1])
    return found


def losses_and_gradient(weights: list[float] | None) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of one batch by name, and the gradient of the finest map."""
    torch.manual_seed(0)
    config = load("convnext_base_3x", *SMALL, "model.masks=false", "model.box_norm=''")
    config.model.stage_loss_weights = weights
    heads = build_detector(config, num_classes=2).model.roi_heads
    maps = {f"p{i}": torch.randn(1, 16, 256 // 2**i, 256 // 2**i) for i in (2, 3, 4, 5)}
    finest = maps["p2"].requires_grad_()
    proposals = Instances((256, 256))
    proposals.proposal_boxes = Boxes(torch.tensor([[8.0, 9, 40, 40], [100, 100, 140, 150]]))
    proposals.objectness_logits = torch.zeros(2)
    torch.manual_seed(1)
    with EventStorage():
        _, losses = heads(None, maps, [proposals], [truth((256, 256))])
    sum(losses.values()).backward()
    return losses, finest.grad


def test_stage_weights_scale_the_losses_and_leave_the_gradients_alone() -> None:
    plain, scaled = losses_and_gradient(None), losses_and_gradient([1.0, 1.0, 1.0])
    assert plain[0] == scaled[0]
    assert torch.allclose(scaled[1], 3 * plain[1], rtol=1e-4, atol=1e-9)
    weighted, _ = losses_and_gradient([1.0, 0.5, 0.25])
    for name, value in plain[0].items():
        weight = 0.5 ** int(name[-1])
        assert weighted[name].item() == pytest.approx(weight * value.item())


def test_a_weight_for_each_stage() -> None:
    stages = [FastRCNNConvFCHead(ShapeSpec(4, 7, 7), conv_dims=[], fc_dims=[8])] * 3
    with pytest.raises(ValueError, match="needs 3 values"):
        cascade_heads({}, stages, {"loss_weight": {}}, [1.0, 0.5])


@pytest.mark.parametrize("cascade", ["true", "false"])
def test_soft_nms_survives_the_cascade(cascade: str) -> None:
    """Equal overlapping boxes: NMS leaves one of a class, Soft-NMS all."""
    found = {}
    for soft in ("None", SOFT):
        config = load(
            "convnext_base_3x",
            *SMALL,
            f"model.cascade={cascade}",
            f"model.soft_nms={soft}",
            "model.score_threshold=0.0",
            "model.masks=false",
        )
        heads = build_detector(config, num_classes=2).model.eval().roi_heads
        maps = {f"p{i}": torch.ones(1, 16, 256 // 2**i, 256 // 2**i) for i in (2, 3, 4, 5)}
        proposals = Instances((256, 256))
        proposals.proposal_boxes = Boxes(torch.tensor([[40.0, 40, 80, 80]] * 5))
        with torch.no_grad():
            found[soft] = heads(None, maps, [proposals])[0][0]
    assert len(found["None"]) == 2
    assert len(found[SOFT]) == 10
    best = found[SOFT].scores.topk(2).values
    assert torch.allclose(best, found["None"].scores.topk(2).values)


def test_stages_are_averaged_before_soft_nms() -> None:
    config = load("convnext_base_3x", *SMALL, f"model.soft_nms={SOFT}", "model.masks=false")
    heads = build_detector(config, num_classes=2).model.eval().roi_heads
    assert isinstance(heads.box_predictor[0], SoftNMSOutputLayers)
    for predictor, bias in zip(heads.box_predictor, (4.0, -4.0, 1.0), strict=True):
        torch.nn.init.zeros_(predictor.cls_score.weight)
        predictor.cls_score.bias.data = torch.tensor([bias, 0.0, 0.0])
    maps = {f"p{i}": torch.ones(1, 16, 64, 64) for i in (2, 3, 4, 5)}
    proposals = Instances((256, 256))
    proposals.proposal_boxes = Boxes(torch.tensor([[40.0, 40, 80, 80]]))
    with torch.no_grad():
        found = heads(None, maps, [proposals])[0][0]
    stages = torch.tensor([[4.0, 0, 0], [-4.0, 0, 0], [1.0, 0, 0]]).softmax(1).mean(0)
    assert found.scores[found.pred_classes == 0].item() == pytest.approx(stages[0].item())
