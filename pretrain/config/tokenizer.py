"""Settings of a tokenizer's training, small and full; nothing here imports torch.

Sources: the DALL-E paper (Ramesh et al. 2021, arXiv 2102.12092), A.2, and openai/DALL-E
`dall_e/encoder.py`. Of what is marked A.2 only batch and steps have been checked against a source;
read the others there before a full-size run. The defaults are for some thousand small images and a
minute on one core.
"""

import math
from dataclasses import dataclass

from pretrain.config.ranges import above_zero, at_least, require, shares


@dataclass(frozen=True)
class VAESizes:
    """Sizes of encoder and decoder; the defaults are DALL-E's."""

    vocab_size: int = 8192
    n_hid: int = 256  # channels at full resolution, doubled at each group
    n_blk_per_group: int = 2
    group_count: int = 4  # each but the last halves the resolution
    n_init: int = 128  # channels at the decoder's input

    def __post_init__(self) -> None:
        at_least(self, 1, "vocab_size", "n_hid", "n_blk_per_group", "group_count", "n_init")
        if self.n_hid % 4:
            raise ValueError(f"n_hid must be a multiple of 4, got {self.n_hid}")

    @property
    def downsampling(self) -> int:
        """Side of a token, in image pixels."""
        return 2 ** (self.group_count - 1)


@dataclass(frozen=True)
class TokenizerSettings:
    """Settings of a tokenizer's training, prefixed so that they can be a recipe's settings."""

    tokenizer_vocab_size: int = 256  # codes; DALL-E 8192, here small; ours
    tokenizer_n_hid: int = 16  # channels at full resolution; DALL-E 256, here small; ours
    tokenizer_n_blk_per_group: int = 1  # residual blocks per group; DALL-E 2, here small; ours
    tokenizer_group_count: int = 4  # each but the last halves the resolution; dall_e/encoder.py
    tokenizer_n_init: int = 32  # channels at the decoder's input; DALL-E 128, here small; ours
    tokenizer_steps: int = 400  # optimizer steps; DALL-E 3,000,000; ours
    tokenizer_batch_size: int = 16  # images per step, over all devices; DALL-E 512; ours
    tokenizer_crop_px: int = 32  # side of the window of each image trained on, 0: all of it; ours
    tokenizer_lr: float = 4e-3  # peak; DALL-E 1e-4; ours
    tokenizer_lr_end: float = 4e-5  # reached by a cosine; DALL-E 1.25e-6; ours
    tokenizer_lr_steps: int = 0  # of that cosine, 0: all; DALL-E 1,200,000; ours
    tokenizer_warmup_steps: int = 20  # from 0 to the peak; not stated in the paper; ours
    tokenizer_weight_decay: float = 1e-4  # A.2
    tokenizer_clip_norm: float | None = 1.0  # largest norm of all gradients together; ours
    tokenizer_temperature_end: float = 0.0625  # of the Gumbel relaxation, from 1 by a cosine; A.2
    tokenizer_temperature_steps: int = 0  # 0: nine tenths of all; DALL-E 150,000; ours
    tokenizer_beta: float = 6.6  # weight of the KL term, from 0; A.2
    tokenizer_beta_steps: int = 100  # DALL-E 5,000; ours
    # start each code at the features of a random patch: a short training uses more codes; ours
    tokenizer_place_codes: bool = True
    # the encoder's share of the learning rate, and the share of the steps before it moves: a fast
    # encoder leaves the codes that its decoder does not know yet; DALL-E 1 and 0, ours
    tokenizer_encoder_lr: float = 0.01
    tokenizer_encoder_wait: float = 0.33  # share of the steps the encoder stands still first; ours
    # average = decay * average + (1 - decay) * weights after each step; None: none is kept; ours
    tokenizer_ema_decay: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "tokenizer_steps", "tokenizer_batch_size", "tokenizer_beta_steps")
        at_least(self, 0, "tokenizer_crop_px", "tokenizer_lr_steps", "tokenizer_warmup_steps")
        at_least(self, 0, "tokenizer_lr_end", "tokenizer_weight_decay", "tokenizer_beta")
        at_least(self, 0, "tokenizer_temperature_steps", "tokenizer_encoder_lr")
        above_zero(self, "tokenizer_lr", "tokenizer_clip_norm")
        shares(self, "tokenizer_encoder_wait")
        if self.tokenizer_crop_px % self.sizes.downsampling:
            raise ValueError(
                f"tokenizer_crop_px={self.tokenizer_crop_px} must be a multiple of "
                f"{self.sizes.downsampling}, the pixels of a token"
            )
        above_zero(self, "tokenizer_temperature_end", "tokenizer_ema_decay")
        end, decay = self.tokenizer_temperature_end, self.tokenizer_ema_decay
        told = f"tokenizer_temperature_end={end} must be at most 1"
        require(self.tokenizer_temperature_end <= 1, told)
        told = f"tokenizer_ema_decay={decay} must be below 1"
        require((self.tokenizer_ema_decay or 0) < 1, told)

    @property
    def sizes(self) -> VAESizes:
        """Encoder and decoder sizes of these settings."""
        return VAESizes(
            vocab_size=self.tokenizer_vocab_size,
            n_hid=self.tokenizer_n_hid,
            n_blk_per_group=self.tokenizer_n_blk_per_group,
            group_count=self.tokenizer_group_count,
            n_init=self.tokenizer_n_init,
        )

    def lr(self, step: int) -> float:
        """Return the learning rate at `step` (from 0): warm-up, then a cosine to `lr_end`."""
        if step < self.tokenizer_warmup_steps:
            return self.tokenizer_lr * (step + 1) / self.tokenizer_warmup_steps
        steps = self.tokenizer_lr_steps or self.tokenizer_steps
        return _cosine(self.tokenizer_lr, self.tokenizer_lr_end, step / steps)

    def encoder_lr(self, step: int) -> float:
        """Return the encoder's learning rate at `step` (from 0)."""
        waits = step < self.tokenizer_encoder_wait * self.tokenizer_steps
        return 0.0 if waits else self.lr(step) * self.tokenizer_encoder_lr

    def temperature(self, step: int) -> float:
        """Return the temperature of the Gumbel relaxation at `step` (from 0)."""
        steps = self.tokenizer_temperature_steps or 0.9 * self.tokenizer_steps
        return _cosine(1.0, self.tokenizer_temperature_end, step / steps)

    def beta(self, step: int) -> float:
        """Return the weight of the KL term at `step`, raised from 0 by a cosine as in DALL-E."""
        return _cosine(0.0, self.tokenizer_beta, step / self.tokenizer_beta_steps)


SMALL = TokenizerSettings()

FULL = TokenizerSettings(
    tokenizer_vocab_size=8192,  # dall_e/encoder.py
    tokenizer_n_hid=256,  # dall_e/encoder.py
    tokenizer_n_blk_per_group=2,  # dall_e/encoder.py
    tokenizer_n_init=128,  # dall_e/decoder.py
    tokenizer_steps=3_000_000,  # A.2
    tokenizer_batch_size=512,  # A.2: 64 devices x 8
    tokenizer_crop_px=0,  # the whole image
    tokenizer_lr=1e-4,  # A.2
    tokenizer_lr_end=1.25e-6,  # A.2
    tokenizer_lr_steps=1_200_000,  # A.2
    tokenizer_warmup_steps=0,  # none stated in the paper; ours
    tokenizer_clip_norm=None,  # none stated in the paper; ours
    tokenizer_temperature_steps=150_000,  # A.2
    tokenizer_beta_steps=5_000,  # A.2
    tokenizer_place_codes=False,  # DALL-E's random start
    tokenizer_encoder_lr=1.0,  # as the decoder
    tokenizer_encoder_wait=0.0,  # moves from the start
    tokenizer_ema_decay=0.999,  # A.2
)

SIZES = {"small": SMALL, "full": FULL}


def _cosine(start: float, end: float, progress: float) -> float:
    """Return a cosine from `start` (progress 0) to `end` (progress 1 and later)."""
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))
