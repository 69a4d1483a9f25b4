"""The discrete VAE behind BEiT's tokens, in DALL-E's form (Ramesh et al. 2021, arXiv 2102.12092).

    logits = encoder(map_pixels(image))                    (B, vocab_size, H/8, W/8)
    y = Gumbel-softmax(logits, temperature)                a relaxed one-hot code per position
    mean, log_scale = decoder(y)                           of a Laplace distribution of logits
    loss = - log p(image | y) + beta * KL(softmax(logits) || uniform)      per pixel value

The networks are in networks.py; tools/train_tokenizer.py trains one.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.config.tokenizer import VAESizes
from pretrain.files.read import read_metadata, safe_read
from pretrain.files.write import atomic_write, write_safetensors
from pretrain.tokenizer.networks import Decoder, Encoder

TOKENIZER_FORMAT = "mim-transfer-tokenizer/1"
PIXEL_MARGIN = 0.1  # keeps the logit of a pixel finite (DALL-E A.3)


def map_pixels(images: Tensor) -> Tensor:
    """Map [0, 1] to [0.1, 0.9]."""
    return (1 - 2 * PIXEL_MARGIN) * images + PIXEL_MARGIN


def unmap_pixels(images: Tensor) -> Tensor:
    """Invert `map_pixels`, clamped to [0, 1]."""
    return ((images - PIXEL_MARGIN) / (1 - 2 * PIXEL_MARGIN)).clamp(0, 1)


class DiscreteVAE(nn.Module):
    """Images in [0, 1] <-> tokens. `with_decoder=False` for DALL-E's encoder alone."""

    def __init__(self, sizes: VAESizes, *, with_decoder: bool = True) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes) if with_decoder else None

    @property
    def vocab_size(self) -> int:
        """Return the number of codes."""
        return self.sizes.vocab_size

    @property
    def downsampling(self) -> int:
        """Side of a token, in image pixels."""
        return self.sizes.downsampling

    def forward(self, images: Tensor, temperature: float, beta: float) -> dict[str, Tensor]:
        """Return the losses for images (B, 3, H, W) in [0, 1], and the most likely `tokens`.

        `loss` and `reconstruction` are per pixel value, `kl` in nats per token:
        loss = reconstruction + beta / (3 f^2) kl    (DALL-E A.2: beta / 192 at f = 8).
        """
        self._check(images)
        mapped = map_pixels(images)
        logits = self.encoder(mapped)
        codes = F.gumbel_softmax(logits.float(), tau=temperature, dim=1)
        reconstruction = logit_laplace_nll(mapped, self._decoder()(codes)).mean()
        kl = kl_to_uniform(logits.float()).mean()
        loss = reconstruction + beta / (3 * self.downsampling**2) * kl
        tokens = logits.detach().argmax(dim=1)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "tokens": tokens}

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return (B, vocab_size, h, w) for images in [0, 1]; computed in float16 on a CUDA device.

        float16 has the longer mantissa; the output layer is float32, as in DALL-E's encoder.
        """
        self._check(images)
        device = images.device.type
        with torch.autocast(device, torch.float16, enabled=device == "cuda"):
            x = self.encoder.blocks[:-1](map_pixels(images))
        with torch.autocast(device, enabled=False):
            return self.encoder.blocks[-1](x.float())

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Return the most likely codes (B, h*w) int64 of images in [0, 1], in raster order."""
        return self.logits(images).argmax(dim=1).flatten(1)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Decode codes (B, h, w) int64 to images (B, 3, f h, f w) in [0, 1]."""
        codes = F.one_hot(tokens, self.vocab_size).permute(0, 3, 1, 2).float()
        means = self._decoder()(codes)[:, :3]
        return unmap_pixels(torch.sigmoid(means.float()))

    def digest(self) -> str:
        """Return the sha256 of the encoder's tensors: equal digests mean equal tokens."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _decoder(self) -> Decoder:
        if self.decoder is None:
            raise ValueError("this tokenizer holds an encoder only: convert the decoder as well")
        return self.decoder

    def _check(self, images: Tensor) -> None:
        if images.shape[-2] % self.downsampling or images.shape[-1] % self.downsampling:
            raise ValueError(
                f"token images of {tuple(images.shape[-2:])} px: both sides must be a multiple "
                f"of {self.downsampling}"
            )


@torch.no_grad()
def place_codes(vae: DiscreteVAE, images: Tensor, sharpness: float = 10.0) -> None:
    """Start every code at the encoder's features of a random position of `images` in [0, 1].

    The logits become - k/2 |feature - code's feature|^2 up to a constant, with k = `sharpness` over
    the features' variance, so that all codes are in use from the first step. Ours: a short
    training leaves most codes of DALL-E's random start unused.
    """
    output: Any = vae.encoder.blocks[-1]
    features = output.relu(vae.encoder.blocks[:-1](map_pixels(images)))
    features = features.permute(0, 2, 3, 1).flatten(0, 2)  # (B h w, C)
    mean = features.mean(dim=0)
    chosen = torch.randint(len(features), (vae.vocab_size,))
    if len(features) >= vae.vocab_size:
        chosen = torch.randperm(len(features))[: vae.vocab_size]
    codes = features[chosen] - mean  # (vocab_size, C)
    k = sharpness / (features - mean).square().sum(dim=1).mean()
    output.conv.w.copy_((k * codes)[..., None, None])
    output.conv.b.copy_(-k * (codes @ mean + codes.square().sum(dim=1) / 2))


def logit_laplace_nll(mapped: Tensor, parameters: Tensor) -> Tensor:
    """Return -log density of mapped pixels (B, 3, H, W) in (0, 1); parameters (B, 6, H, W).

    density(x) = exp(-|logit(x) - mean| / scale) / (2 scale x (1 - x))    (DALL-E A.3)
    """
    mean, log_scale = parameters.float().chunk(2, dim=1)
    distance = (torch.logit(mapped) - mean).abs() * torch.exp(-log_scale)
    return distance + log_scale + math.log(2) + torch.log(mapped * (1 - mapped))


def kl_to_uniform(logits: Tensor) -> Tensor:
    """Return KL(softmax(logits) || uniform) in nats: (B, vocab_size, h, w) -> (B, h, w)."""
    log_q = F.log_softmax(logits, dim=1)
    return (log_q.exp() * log_q).sum(dim=1) + math.log(logits.shape[1])


def write_tokenizer(path: Path, vae: DiscreteVAE, about: Mapping[str, Any]) -> None:
    """Write tensors, sizes and `about` (JSON-able: how it was made) atomically."""
    metadata = {
        "format": TOKENIZER_FORMAT,
        "sizes": json.dumps(asdict(vae.sizes)),
        "about": json.dumps(dict(about)),
    }
    atomic_write(path, lambda p: write_safetensors(p, vae.state_dict(), metadata))


def read_tokenizer(path: Path) -> DiscreteVAE:
    """Load the tokenizer in `path`, frozen and in evaluation mode.

    Raises FileNotFoundError if there is no file, ValueError if it is not a complete tokenizer file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no tokenizer file at {path}: train one, tools/train_tokenizer.py")
    metadata = read_metadata(path)
    if metadata.get("format") != TOKENIZER_FORMAT:
        raise ValueError(
            f"{path}: not a tokenizer file (its header says {metadata.get('format', 'no format')!r}"
            f", expected {TOKENIZER_FORMAT!r}); make one with tools/train_tokenizer.py, or from "
            "DALL-E's files with tools/convert_dalle.py"
        )
    tensors = safe_read(path)
    sizes = VAESizes(**json.loads(metadata["sizes"]))
    with_decoder = any(name.startswith("decoder.") for name in tensors)
    return load_tensors(DiscreteVAE(sizes, with_decoder=with_decoder), tensors, str(path))


def load_tensors(vae: DiscreteVAE, tensors: Mapping[str, Tensor], source: str) -> DiscreteVAE:
    """Fill `vae` with exactly `tensors`, freeze it; ValueError lists what does not fit."""
    try:
        vae.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ValueError(f"{source}: tensors do not fit {vae.sizes}: {error}") from error
    # channels last: a third faster on a CPU
    return vae.requires_grad_(False).eval().to(memory_format=torch.channels_last)
