"""SparK: BERT-style pretraining of convnets (Tian et al. 2023, arXiv 2301.03580).

    S_1..S_4 = encoder(visible patches)             feature maps of strides 4, 8, 16, 32
    D_i      = proj_i(norm_i(S_i) if visible else mask token_i)              densify
    x = 0;  x = block_i(x + D_i), small maps first;  reconstruction = 1x1(x)  a light UNet decoder
    loss = mean over masked patches of mean_pixels (reconstruction - (patch - mean) / std)^2

Names, order and constants as in keyu-tian/SparK `pretrain/spark.py` and `decoder.py`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from pretrain.data.masks import spark_visible_count
from pretrain.encoders import build_encoder
from pretrain.methods.pixels import masked_patch_loss, patch_grid, patchify, unnormalise_patches
from pretrain.methods.spark_decoder import Decoder
from pretrain.methods.spark_densify import densify
from pretrain.run.batch_norm import has_batch_norm
from pretrain.sparse import MaskedEncoder, View, mask_layers
from pretrain.sparse.masked import Sparse, visible_count


class SparK(nn.Module):
    """Masked image modelling on a timm convnet.

    `decoder_width` is the decoder's channels at the smallest map (768 in the paper), a multiple
    of 2 to the number of its blocks; `densify_norm` "bn" or "ln" (None: as the encoder has it).
    `sparse`: "patches" computes visible patches only, "dense" is the masked reference.
    """

    def __init__(
        self,
        *,
        arch: str = "resnet50",
        arch_args: Mapping[str, Any] | None = None,
        image_size: int = 224,
        mask_ratio: float = 0.6,
        drop_path_rate: float = 0.0,
        decoder_width: int = 768,
        densify_norm: str | None = None,
        sparse: Sparse = "patches",
    ) -> None:
        super().__init__()
        self.arch, self.arch_args = arch, dict(arch_args or {})
        self.encoder = build_encoder(arch, arch_args, drop_path_rate)
        self.masked = MaskedEncoder(self.encoder, sparse)
        self.grid = patch_grid(image_size, self.masked.patch)
        self.n_visible = spark_visible_count(self.grid[0] * self.grid[1], mask_ratio)
        widths = [m.channels for m in reversed(self.masked.maps)]  # smallest map first
        norm = densify_norm or ("bn" if has_batch_norm(self.encoder) else "ln")
        self.densify_norms = nn.ModuleList(_densify_norm(norm, width) for width in widths)
        mask_layers(self.densify_norms, self.masked.slot, sparse)
        self.mask_tokens = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in widths)
        for token in self.mask_tokens:
            nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
        self.densify_projs = nn.ModuleList(
            _densify_proj(i, width, decoder_width // 2**i) for i, width in enumerate(widths)
        )
        self.decoder = Decoder(decoder_width, self.masked.patch, merge=sparse == "patches")

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the loss, a scalar; images (B, 3, H, W) normalised, visible (B, 1, h, w) bool."""
        rows = patchify(self.predict(images, visible), self.masked.patch)
        return masked_patch_loss(rows, images, visible)

    def predict(self, images: Tensor, visible: Tensor) -> Tensor:
        """(B, 3, H, W) in units of each patch's own mean and standard deviation."""
        view = self.view(visible)
        features = self.masked(images, view)
        densified = []
        with self.masked.slot.using(view):
            for feature, norm, token, proj in zip(
                reversed(features),
                self.densify_norms,
                self.mask_tokens,
                self.densify_projs,
                strict=True,
            ):
                densified.append(densify(norm(feature), token, proj, view))
        return self.decoder(densified)

    def features(self, images: Tensor, visible: Tensor) -> list[Tensor]:
        """Return the encoder's maps (B, C, H', W'), zero where masked, high resolution first."""
        return self.masked.densified(images, self.view(visible))

    def view(self, visible: Tensor) -> View:
        """Return the mask `visible` (B, 1, h, w) bool as a view for one forward pass."""
        return self.masked.view(visible, visible_count(visible, self.n_visible))

    @torch.no_grad()
    def reconstruct(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the prediction in the pixels of `images`, with the true patches' mean and std."""
        return unnormalise_patches(self.predict(images, visible), images, self.masked.patch)

    def encoder_state(self) -> dict[str, Tensor]:
        """Return the encoder file's tensors, timm-named."""
        return dict(self.encoder.state_dict())


def _densify_norm(kind: str, width: int) -> nn.Module:
    if kind not in ("bn", "ln"):
        raise ValueError(f"densify_norm must be 'bn' or 'ln', got {kind!r}")
    return nn.BatchNorm2d(width) if kind == "bn" else LayerNorm2d(width, eps=1e-6)


def _densify_proj(i: int, width: int, decoder_width: int) -> nn.Module:
    """1x1 at the smallest map, 3x3 above; nothing where the smallest already has the width."""
    if i == 0 and width == decoder_width:
        return nn.Identity()
    kernel = 1 if i == 0 else 3
    return nn.Conv2d(width, decoder_width, kernel, padding=kernel // 2)
