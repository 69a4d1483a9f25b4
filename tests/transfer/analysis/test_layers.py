"""What is seen of an encoder is what its layers compute."""

import pytest
import torch
from torch import nn

from tests.transfer.weights.cases_layouts import BEIT, CONVNEXT2, RESNET, random_net
from transfer.analysis.encoders import Analysed
from transfer.analysis.layers import blocks_of, look, positions_last, shrinking_layer
from transfer.features import TimmFeatures
from transfer.weights import IMAGENET


def analysed(arch: str, args: dict) -> Analysed:
    return Analysed(arch, TimmFeatures(arch, args).eval(), IMAGENET, 64)


@pytest.mark.parametrize(
    ("net", "count", "width"), [(CONVNEXT2, 5, 32), (RESNET, 5, 16), (BEIT, 3, 192)]
)
def test_every_block_is_seen_once_in_order(net, count, width):
    encoder = analysed(*net)
    seen: dict[str, torch.Tensor] = {}
    images = torch.randn(2, 3, 96, 96)
    look(encoder, images, seen.__setitem__, expansions=True)
    assert list(seen) == list(blocks_of(encoder.features.encoder))
    assert len(seen) == count
    first = next(iter(seen.values()))
    assert (first.shape[0], first.shape[2]) == (2, width)
    cells = 36 if net is BEIT else (96 // 4) ** 2
    assert first.shape[1] == cells
    seen.clear()
    encoder.features(images)
    assert not seen


def test_an_expansion_is_taken_behind_the_grn():
    encoder = analysed(*CONVNEXT2)
    block = encoder.features.encoder.stages[0].blocks[0]
    found: list[torch.Tensor] = []
    block.mlp.grn.register_forward_hook(lambda _m, _i, out: found.append(out))
    nn.init.normal_(block.mlp.grn.weight)
    seen: dict[str, torch.Tensor] = {}
    look(encoder, torch.randn(1, 3, 64, 64), seen.__setitem__, expansions=True)
    assert torch.equal(seen["stages.0.blocks.0"], found[0].flatten(1, 2))


def test_both_orders_of_channels_are_the_same():
    x = torch.randn(2, 3, 4, 5)
    first = positions_last(x, nn.Conv2d, 0)
    last = positions_last(x.permute(0, 2, 3, 1), nn.Linear, 0)
    assert torch.equal(first, last)
    assert torch.equal(positions_last(first, nn.Linear, 1), first[:, 1:])


def test_efficientnet_is_seen_before_its_expansion_shrinks():
    net = random_net("efficientnet_b0", {}, num_classes=0)
    inner = [shrinking_layer(block) for block in blocks_of(net).values()]
    assert sum(layer is not None for layer in inner) >= 14


def test_a_net_without_blocks_is_refused():
    with pytest.raises(ValueError, match="no residual blocks"):
        blocks_of(nn.Sequential(nn.Conv2d(3, 4, 3)))
