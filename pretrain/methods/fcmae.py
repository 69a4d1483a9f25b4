"""FCMAE: fully convolutional masked autoencoder (Woo et al. 2023, ConvNeXt V2, arXiv 2301.00808).

    S = encoder(visible patches)                    the last feature map, stride 32
    x = proj(S) if visible else mask token
    prediction = 1x1(block(x))                      one ConvNeXt V2 block over the whole grid
    loss = mean over masked patches of mean_pixels (prediction - (patch - mean) / std)^2

As facebookresearch/ConvNeXt-V2 `models/fcmae.py`, with GRN per image over visible positions as in
the paper's own masked-dense form (TRAINING.md): the release's MinkowskiGRN mixes the whole batch.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from pretrain.data.masks import fcmae_visible_count
from pretrain.encoders import build_encoder
from pretrain.methods.pixels import masked_patch_loss, patch_grid, unnormalise_patches, unpatchify
from pretrain.sparse import MaskedEncoder, View
from pretrain.sparse.masked import Sparse, visible_count

Init = Literal["std_0.02", "release"]


class FCMAE(nn.Module):
    """Masked image modelling on a timm ConvNeXt V2 (or another convnet).

    `decoder_width`, `decoder_depth`: 512 and 1 in the paper. `init`: "std_0.02", what the paper's
    encoder has everywhere; "release", the released PyTorch code's second pass over the model,
    truncated normal of std 1 on every convolution's and encoder Linear's weight (see
    `init_weights`). `norm_pix_loss` False: predict pixels as they are, an option of the release.
    `sparse`: "patches" computes visible patches only, "dense" is the reference.
    """

    def __init__(
        self,
        *,
        arch: str = "convnextv2_tiny",
        arch_args: Mapping[str, Any] | None = None,
        image_size: int = 224,
        mask_ratio: float = 0.6,
        drop_path_rate: float = 0.0,
        decoder_width: int = 512,
        decoder_depth: int = 1,
        init: Init = "std_0.02",
        norm_pix_loss: bool = True,
        sparse: Sparse = "patches",
    ) -> None:
        super().__init__()
        self.arch, self.arch_args = arch, dict(arch_args or {})
        self.norm_pix_loss = norm_pix_loss
        self.encoder = build_encoder(arch, arch_args, drop_path_rate)
        self.masked = MaskedEncoder(self.encoder, sparse)
        self.patch = self.masked.patch
        self.grid = patch_grid(image_size, self.patch)
        self.n_visible = fcmae_visible_count(self.grid[0] * self.grid[1], mask_ratio)
        self.proj = nn.Conv2d(self.masked.maps[-1].channels, decoder_width, kernel_size=1)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_width, 1, 1))
        self.decoder = nn.Sequential(
            *(
                ConvNeXtBlock(decoder_width, use_grn=True, ls_init_value=None)
                for _ in range(decoder_depth)
            )
        )
        self.pred = nn.Conv2d(decoder_width, self.patch**2 * 3, kernel_size=1)
        init_weights(self, init)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the loss, a scalar; images (B, 3, H, W) normalised, visible (B, 1, h, w) bool."""
        prediction = self.predict(images, visible)
        return masked_patch_loss(prediction, images, visible, normalise=self.norm_pix_loss)

    def predict(self, images: Tensor, visible: Tensor) -> Tensor:
        """(B, h w, p p 3) in units of each patch's own mean and std; see `norm_pix_loss`."""
        view = self.view(visible)
        (feature,) = self.masked(images, view, self.masked.maps[-1:])
        return self.decode(view.densify(self.proj(feature), self.mask_token))

    def decode(self, x: Tensor) -> Tensor:
        """(B, decoder_width, h, w) -> (B, h w, p p 3)."""
        rows = self.decoder(x).permute(0, 2, 3, 1).flatten(1, 2)
        return nn.functional.linear(rows, self.pred.weight.flatten(1), self.pred.bias)

    def features(self, images: Tensor, visible: Tensor) -> list[Tensor]:
        """Return the encoder's maps (B, C, H', W'), zero where masked, high resolution first."""
        return self.masked.densified(images, self.view(visible))

    def view(self, visible: Tensor) -> View:
        """Return the mask `visible` (B, 1, h, w) bool as a view for one forward pass."""
        return self.masked.view(visible, visible_count(visible, self.n_visible))

    @torch.no_grad()
    def reconstruct(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the prediction in the pixels of `images`, with the true patches' mean and std."""
        rows = self.predict(images, visible)
        prediction = unpatchify(rows, self.patch, (visible.shape[2], visible.shape[3]))
        if not self.norm_pix_loss:
            return prediction
        return unnormalise_patches(prediction, images, self.patch)

    def encoder_state(self) -> dict[str, Tensor]:
        """Return the encoder file's tensors, timm-named, without a head."""
        return dict(self.encoder.state_dict())


def init_weights(model: FCMAE, init: Init) -> None:
    """Initialise weights truncated normal, biases zero, mask token normal 0.02, norms as timm.

    "std_0.02": every convolution and Linear 0.02, as the encoder's own initialisation and the
    paper's (JAX) code. "release": `FCMAE._init_weights` of the released PyTorch code, which runs
    after that and forgets std: 1 for depthwise kernels, the encoder's Linears and every dense
    convolution (stem, proj, pred, the decoder's depthwise); 0.02 for the encoder's downsampling,
    PyTorch's default for the decoder's Linears.
    Raises ValueError for another `init`.
    """
    if init not in ("std_0.02", "release"):
        raise ValueError(f"init must be 'std_0.02' or 'release', got {init!r}")
    nn.init.normal_(model.mask_token, std=0.02)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if init == "std_0.02" or ".downsample." in name:
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d) or name.startswith("encoder."):
            nn.init.trunc_normal_(module.weight, std=1.0)
        else:
            module.reset_parameters()
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
