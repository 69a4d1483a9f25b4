"""Under autocast boxes, statistics and losses keep float32."""

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import batch_norm
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor, nn

from pretrain.run.batch_norm import CPUSyncBatchNorm
from transfer.detection.mask_rcnn import pooler
from transfer.detection.precision import Float32SyncBatchNorm
from transfer.detection.prepare import prepare, training_batches

Tiny = Callable[..., DictConfig]
HALF = [torch.bfloat16, torch.float16]


CELLS = (208, 336)  # of the finest map, for an image of 832 x 1344 pixels
STRIDE = 4


def cell_numbers(dtype: torch.dtype) -> list[Tensor]:
    """Maps (1, 2, h, w) of the columns' and rows' numbers from the centre: exact in 8 bits."""
    height, width = CELLS
    x, y = torch.arange(width) - width // 2, torch.arange(height) - height // 2
    finest = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None].to(dtype)
    return [finest[..., ::step, ::step] for step in (1, 2, 4, 8)]


def random_boxes(count: int, side_px: float) -> Tensor:
    corner = 5 + torch.rand(count, 2) * torch.tensor([1200.0, 690.0])
    return torch.cat([corner, corner + side_px * (0.8 + 0.4 * torch.rand(count, 2))], 1)


def boxes_read(pooled: Tensor) -> Tensor:
    """The boxes (R, 4) in pixels that (R, 2, 7, 7) averages of cell numbers were read from."""
    height, width = CELLS
    pixels = (pooled + torch.tensor([width // 2, height // 2]).view(2, 1, 1) + 0.5) * STRIDE
    first, last = pixels[:, :, 0, 0], pixels[:, :, 6, 6]  # half a seventh inside of the box
    return torch.cat([first - (last - first) / 12, last + (last - first) / 12], 1)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("side_px", [16, 32, 64])
def test_boxes_are_pooled_where_they_are(dtype: torch.dtype, side_px: int) -> None:
    """With boxes in the maps' 8 bits the mean overlap was 0.83 at 16 pixels, 0.91 at 32."""
    torch.manual_seed(0)
    boxes = random_boxes(300, side_px)
    pooled = pooler(7)(cell_numbers(dtype), [Boxes(boxes)])
    assert torch.equal(pooled, pooler(7)(cell_numbers(torch.float32), [Boxes(boxes)]))
    overlap = pairwise_iou(Boxes(boxes_read(pooled)), Boxes(boxes)).diagonal()
    assert overlap.mean() > 0.999


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", [Float32SyncBatchNorm, CPUSyncBatchNorm])
def test_synchronised_statistics_are_those_of_float32(
    kind: type[nn.Module], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels far from zero: with 8 bits their variance came out negative."""
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda x: 2 * x)  # an equal twin
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.mul_(2))
    torch.manual_seed(0)
    x = (torch.randn(4, 8, 16, 16) + torch.linspace(0, 14, 8).view(8, 1, 1)).to(dtype)
    norm = kind(8, stats_mode="N") if kind is Float32SyncBatchNorm else kind(8)
    alone = nn.BatchNorm2d(8)
    expected = alone(x.float())
    found = norm(x)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, atol=4 * torch.finfo(dtype).eps * 4)
    assert torch.allclose(norm.running_mean, alone.running_mean, rtol=1e-5, atol=1e-6)
    assert torch.allclose(norm.running_var, alone.running_var, rtol=1e-3)


def test_losses_are_computed_in_float32_under_bfloat16(tiny: Tiny) -> None:
    setup = prepare(tiny())
    batch = next(iter(training_batches(setup, 0)))
    seen = []
    head = setup.detector.model.proposal_generator.rpn_head
    head.register_forward_hook(lambda _m, _i, out: seen.extend(t.dtype for t in out[0] + out[1]))
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        losses = setup.detector.model(batch)
        inner = head.conv(torch.zeros(1, 16, 4, 4)).dtype
    assert inner == torch.bfloat16
    assert set(seen) == {torch.float32} == {v.dtype for v in losses.values()}
