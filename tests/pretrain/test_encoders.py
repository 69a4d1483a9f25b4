"""timm encoders by name."""

import pytest
import torch

from pretrain.encoders import build_encoder, feature_maps, run_encoder


@pytest.mark.parametrize(
    ("arch", "arch_args"),
    [
        ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 12, 20, 16]}),
        ("convnextv2_atto", {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 16]}),
    ],
)
def test_feature_maps(arch: str, arch_args: dict[str, list[int]]) -> None:
    encoder = build_encoder(arch, arch_args)
    maps = feature_maps(encoder)
    assert [(m.channels, m.stride) for m in maps] == [(8, 4), (12, 8), (20, 16), (16, 32)]
    shapes = [f.shape for f in run_encoder(encoder, torch.zeros(1, 3, 64, 64), maps)]
    assert shapes == [(1, m.channels, 64 // m.stride, 64 // m.stride) for m in maps]


def test_nothing_of_the_classifier_is_left() -> None:
    assert not [n for n in build_encoder("convnext_atto").state_dict() if n.startswith("head")]
    unused = build_encoder("mobilenetv2_050")
    features = run_encoder(unused, torch.zeros(1, 3, 64, 64), feature_maps(unused))
    sum(f.sum() for f in features).backward()
    assert not [n for n, p in unused.named_parameters() if p.grad is None]


def test_stochastic_depth_rises_with_depth() -> None:
    encoder = build_encoder("convnext_atto", None, drop_path_rate=0.3)
    rates = [m.drop_prob for m in encoder.modules() if hasattr(m, "drop_prob")]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"did you mean .*'resnet50'"):
        build_encoder("resnet_50")
    with pytest.raises(ValueError, match="depth_of_net"):
        build_encoder("resnet18", {"depth_of_net": 3})
    with pytest.raises(ValueError, match="ls_init_value=None for no argument"):
        build_encoder("convnext_atto", {"ls_init_value": None})
