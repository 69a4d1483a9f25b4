"""timm features as a backbone of MMSegmentation."""

from collections.abc import Mapping
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn

from transfer.features.timm_features import is_plain_vit
from transfer.weights.controls import file_of
from transfer.weights.convert import read_weights
from transfer.weights.load import features_for


@MODELS.register_module()
class TimmBackbone(nn.Module):
    """(B, 3, H, W) -> (res2, res3, res4, res5), timm's own tensors, at strides 4, 8, 16, 32.

    weights    a weights file, a control, or "none" to start from random weights
    arch       a timm architecture; None takes the one of the weights file
    vit        further arguments of TimmFeatures for plain ViTs (pyramid, blocks, image_size)
    more       further arguments of features_for and TimmFeatures

    Attributes: features, report (LoadReport, None from scratch), pixels (PixelStats), channels,
    arch and arch_args as they were built.
    """

    def __init__(
        self,
        weights: str,
        arch: str | None = None,
        arch_args: Mapping[str, Any] | None = None,
        vit: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        super().__init__()
        net, net_args = arch, arch_args
        file = file_of(weights)
        if net is None and file is not None:
            identity = read_weights(file, more.get("source")).identity
            net, net_args = identity.arch, identity.arch_args
        if net is not None and is_plain_vit(net, net_args):
            more |= vit or {}
        elif net is not None:
            refuse_vit_settings(net, vit or {})
        self.features, self.report, self.pixels = features_for(weights, arch, arch_args, **more)
        if self.report and not arch_args:
            arch, arch_args = self.report.identity["arch"], self.report.identity["arch_args"]
        self.arch, self.arch_args = arch, dict(arch_args or {})
        self.channels = [self.features.channels[name] for name in self.features.out_features]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return one map per output, in the order of the strides."""
        return tuple(self.features(images).values())


def refuse_vit_settings(arch: str, vit: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting of plain ViTs that would do nothing to another network."""
    for name in ("image_size", "relative_position", "layer_scale"):
        if vit.get(name):
            raise ValueError(
                f"{name}={vit[name]!r} is for plain ViTs, not for {arch}: leave it out"
            )
