"""BEiT: predict the visual tokens of masked patches (Bao et al. 2022, arXiv 2106.08254).

    z = tokenizer(image)                            one of `vocab_size` codes a patch
    x_i = patch embedding of patch i if visible, else the mask token;  x = [cls, x_1, ..., x_hw]
    loss = - mean over masked i of log softmax(W LayerNorm(ViT(x))_i + b)[z_i]

The encoder is timm's `Beit` with one relative position bias table for all blocks, as in
unilm `beit/modeling_pretrain.py`; settings of App. G, Table 12.
"""

import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.encoders import timm_args
from pretrain.sparse.masked import require
from pretrain.sparse.rows import select_rows
from pretrain.tokenizer.vae import DiscreteVAE

PRETRAINING_ARGS: dict[str, Any] = {
    "use_shared_rel_pos_bias": True,
    "use_rel_pos_bias": False,
    "use_abs_pos_emb": False,
    "global_pool": "token",  # timm then keeps the final `norm`, which the pretrained file holds
}


class BEiT(nn.Module):
    """Masked image modelling on a timm `Beit` encoder.

    `arch_args` are timm's arguments on top of PRETRAINING_ARGS (`embed_dim`, `depth`, `num_heads`,
    `patch_size`, `init_values` for layer scale, ...). `vocab_size` comes from the tokenizer;
    give it only where tokens are passed directly. `pixel_mean`, `pixel_std` in [0, 1] units are
    the normalisation of `images`; only `reconstruct` needs them.
    """

    encoder: Any  # timm's Beit
    tokenizer: DiscreteVAE | None

    def __init__(
        self,
        *,
        arch: str = "beit_base_patch16_224",
        arch_args: Mapping[str, Any] | None = None,
        image_size: int = 224,
        tokenizer: DiscreteVAE | None = None,
        vocab_size: int | None = None,
        drop_path_rate: float = 0.1,
        pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if not timm.models.is_model_in_modules(arch, ["beit"]):
            raise ValueError(f"arch={arch!r} is not a timm Beit: choose e.g. beit_base_patch16_224")
        self.arch = arch
        self.arch_args = {**PRETRAINING_ARGS, **timm_args(arch, arch_args), "img_size": image_size}
        encoder = timm.create_model(
            arch, pretrained=False, num_classes=0, drop_path_rate=drop_path_rate, **self.arch_args
        )
        if not isinstance(encoder, timm.models.beit.Beit):
            raise ValueError(
                f"arch={arch!r} is not a timm Beit; BEiT needs e.g. beit_base_patch16_224"
            )
        self.encoder = encoder
        self.grid: tuple[int, int] = encoder.patch_embed.grid_size
        # Patches that a mask hides at most: the loss is computed for so many of every image.
        self.most_masked = self.grid[0] * self.grid[1]
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder.embed_dim))
        self.lm_head = nn.Linear(encoder.embed_dim, _vocabulary(tokenizer, vocab_size))
        # Frozen and kept in its own file: neither a parameter nor part of the training state.
        self.__dict__["tokenizer"] = tokenizer
        self.tokenizer_digest = "" if tokenizer is None else tokenizer.digest()
        self.pixel_mean, self.pixel_std = pixel_mean, pixel_std
        init_weights(self)

    def forward(self, images: Tensor, visible: Tensor, token_images: Tensor) -> dict[str, Tensor]:
        """Return "loss" and "mlm_acc", scalars, as `score_tokens` does.

        images (B, 3, H, W) normalised; visible (B, 1, h, w) bool; token_images
        (B, 3, f h, f w) in [0, 1], the same crop at the tokenizer's downsampling factor f.
        """
        return self.score_tokens(images, visible, self.tokens(token_images))

    def loss_from_tokens(self, images: Tensor, visible: Tensor, tokens: Tensor) -> Tensor:
        """Return the loss of `score_tokens`, a scalar."""
        return self.score_tokens(images, visible, tokens)["loss"]

    def score_tokens(self, images: Tensor, visible: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """Return the cross entropy and the share of tokens that are the likeliest, as scalars.

        Both are means over all masked patches of the batch. tokens (B, h*w) int64. Block masks
        differ in size, so the mean of several processes' or accumulated losses is not quite that of
        one; unilm beit `engine_for_pretraining.py` averages in the same way. Raises ValueError if a
        mask on the CPU hides more than `most_masked`.
        """
        masked = ~visible.flatten(1)  # (B, h*w)
        require(masked.sum(1) <= self.most_masked, f"a mask hides more than {self.most_masked}")
        # Masked patches first, then visible ones up to `most_masked`, which weigh nothing.
        order = masked.byte().argsort(dim=1, descending=True, stable=True)[:, : self.most_masked]
        logits = self.logits_at(images, visible, order)
        targets = tokens.gather(1, order).flatten()
        errors = F.cross_entropy(logits, targets, reduction="none")
        correct = logits.detach().argmax(dim=1) == targets
        weights = masked.gather(1, order).flatten()
        count = weights.sum()
        return {
            "loss": (errors * weights).sum() / count,
            "mlm_acc": (correct & weights).sum() / count,
        }

    def logits(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return (m, vocab_size) for the m masked patches of the batch, in raster order.

        Waits for the device, to know m: not for training.
        """
        features = self.features(images, visible)[:, 1:]
        return self.lm_head(features[~visible.flatten(1)])

    def logits_at(self, images: Tensor, visible: Tensor, patches: Tensor) -> Tensor:
        """Return (B * k, vocab_size) at `patches` (B, k), k different numbers for each image."""
        features = self.features(images, visible)  # (B, 1 + h*w, C), class token first
        first = torch.arange(len(patches), device=patches.device) * features.shape[1] + 1
        index = (patches + first[:, None]).flatten()
        return self.lm_head(select_rows(features.flatten(0, 1), index))

    def features(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """After the final norm, (B, 1 + h*w, C), class token first; `visible` None = all."""
        encoder = self.encoder
        x = encoder.patch_embed(images)  # (B, h*w, C)
        if visible is not None:
            x = torch.where(visible.flatten(1)[..., None], x, self.mask_token.to(x.dtype))
        x = torch.cat((encoder.cls_token.expand(len(x), -1, -1).to(x.dtype), x), dim=1)
        if encoder.pos_embed is not None:
            x = x + encoder.pos_embed
        bias = None if encoder.rel_pos_bias is None else encoder.rel_pos_bias()
        for block in encoder.blocks:
            x = block(x, shared_rel_pos_bias=bias)
        return encoder.norm(x)

    def tokens(self, token_images: Tensor) -> Tensor:
        """Return the tokenizer's codes (B, h*w) int64 of `token_images` in [0, 1].

        Raises ValueError if they do not have one token per patch.
        """
        tokens = self._tokenizer().tokens(token_images)
        if tokens.shape[1] != self.grid[0] * self.grid[1]:
            raise ValueError(
                f"token images of {tuple(token_images.shape[-2:])} px give {tokens.shape[1]} "
                f"tokens for a grid of {self.grid} patches: resize them to {self.token_image_size}"
            )
        return tokens

    @property
    def token_image_size(self) -> int:
        """Pixels along a side of `token_images`."""
        return self.grid[0] * self._tokenizer().downsampling

    @property
    def can_decode(self) -> bool:
        """Return whether the tokenizer turns codes into images: DALL-E's encoder alone does not."""
        return self.tokenizer is not None and self.tokenizer.decoder is not None

    @torch.no_grad()
    def reconstruct(self, images: Tensor, visible: Tensor, token_images: Tensor) -> Tensor:
        """Decode the likeliest codes of the masked patches among the true ones of the visible.

        Returns (B, 3, H, W) in the normalised pixel space of `images`; a picture of what the loss
        sees: the tokenizer's own loss of detail is in it.
        """
        tokens = self.tokens(token_images)
        tokens[~visible.flatten(1)] = self.logits(images, visible).argmax(dim=1)
        decoded = self._tokenizer().decode(tokens.unflatten(1, self.grid))
        decoded = F.interpolate(decoded, images.shape[-2:], mode="bilinear", antialias=True)
        mean, std = (decoded.new_tensor(v).view(3, 1, 1) for v in (self.pixel_mean, self.pixel_std))
        return (decoded - mean) / std

    def encoder_state(self) -> dict[str, Tensor]:
        """Return the encoder file's tensors, timm-named: shared table and final norm included."""
        return dict(self.encoder.state_dict())

    def get_extra_state(self) -> dict[str, str]:
        """Return which tokenizer the training state belongs to."""
        return {"tokenizer": self.tokenizer_digest}

    def set_extra_state(self, state: Any) -> None:
        """Raise ValueError for a state that was trained with another tokenizer."""
        theirs, ours = state["tokenizer"][:12], self.tokenizer_digest[:12]
        if theirs != ours:
            raise ValueError(
                f"this training state was made with tokenizer {theirs or 'none'}, here is "
                f"{ours or 'none'}: resume with the tokenizer the run began with"
            )

    def _tokenizer(self) -> DiscreteVAE:
        if self.tokenizer is None:
            raise ValueError("this BEiT has no tokenizer: build it with tokenizer=, or pass tokens")
        return self.tokenizer

    def _apply(self, fn: Any, recurse: bool = True) -> "BEiT":
        """Move the tokenizer along to a device, though it is no registered submodule."""
        super()._apply(fn, recurse)
        if self.tokenizer is not None:
            self.tokenizer._apply(fn, recurse)
        return self


@torch.no_grad()
def init_weights(model: BEiT, std: float = 0.02) -> None:
    """Normal(0, std) cut at one std; the outputs of block l divided by sqrt(2 l), l from 1.

    unilm `beit/modeling_pretrain.py`: `_init_weights` and `fix_init_weight`. Biases, the position
    table and q, v biases zero, norms one; layer scale keeps `init_values`.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=std, a=-std, b=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    encoder = model.encoder
    for token in (encoder.cls_token, model.mask_token, encoder.pos_embed):
        if token is not None:
            nn.init.trunc_normal_(token, std=std, a=-std, b=std)
    for layer, block in enumerate(encoder.blocks, start=1):
        block.attn.proj.weight.div_(math.sqrt(2 * layer))
        block.mlp.fc2.weight.div_(math.sqrt(2 * layer))


def _vocabulary(tokenizer: DiscreteVAE | None, vocab_size: int | None) -> int:
    if tokenizer is not None:
        if vocab_size not in (None, tokenizer.vocab_size):
            raise ValueError(
                f"vocab_size={vocab_size}, but the tokenizer has {tokenizer.vocab_size} codes: "
                "leave vocab_size out"
            )
        return tokenizer.vocab_size
    if vocab_size is None:
        raise ValueError("BEiT needs a tokenizer, or a vocab_size for tokens given directly")
    return vocab_size
