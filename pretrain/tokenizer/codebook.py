"""What a tokenizer does with a data set: which codes it uses, what is lost, a picture."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pretrain.data.augment import center_square
from pretrain.data.batches import to_tensor
from pretrain.data.reading import read_or_replace
from pretrain.data.sources import Images
from pretrain.run.sheet import sheet_of_columns, spread
from pretrain.tokenizer.vae import DiscreteVAE

log = logging.getLogger(__name__)
MEASURED_IMAGES = 512  # at most
SHOWN_IMAGES = 8
FEW_CODES = 0.1  # share of the codebook in use below which the user is told
BATCH = 32


@dataclass(frozen=True)
class CodebookUse:
    """How evenly images use the codes.

    `perplexity` is exp of the entropy of code use: the number of equally used codes with the same
    entropy.
    """

    perplexity: float
    used: int
    dead: int

    @staticmethod
    def count(tokens: Tensor, vocab_size: int) -> Tensor:
        """Count how often each code occurs in `tokens`, int64 of any shape -> (vocab_size,)."""
        return torch.bincount(tokens.flatten(), minlength=vocab_size)

    @classmethod
    def of(cls, counts: Tensor) -> "CodebookUse":
        """Summarise code counts (vocab_size,) int."""
        shares = counts[counts > 0].double() / counts.sum()
        perplexity = torch.exp(-(shares * shares.log()).sum()).item()
        return cls(perplexity, len(shares), len(counts) - len(shares))


@torch.inference_mode()
def measure(vae: DiscreteVAE, images: Images, side: int) -> tuple[dict[str, Any], Image.Image]:
    """Measure code use and mean absolute pixel error in [0, 1] on squares of `side` pixels.

    Returns the figures and a picture of each image beside its decoded tokens. Logs a warning if
    few codes are in use.
    """
    device = next(vae.parameters()).device
    squares = central_squares(images, MEASURED_IMAGES, side).to(device)
    grid = (side // vae.downsampling, side // vae.downsampling)
    tokens = [vae.tokens(batch) for batch in squares.split(BATCH)]
    decoded = torch.cat([vae.decode(batch.unflatten(1, grid)) for batch in tokens])
    use = CodebookUse.of(CodebookUse.count(torch.cat(tokens), vae.vocab_size))
    log.info(
        "%d images use %d of %d codes, perplexity %.1f, %d dead",
        len(squares),
        use.used,
        vae.vocab_size,
        use.perplexity,
        use.dead,
    )
    if use.used < FEW_CODES * vae.vocab_size:
        log.warning(
            "few codes are in use: train longer (--tokenizer-steps), raise --tokenizer-beta, "
            "or lower --tokenizer-vocab-size"
        )
    error = (decoded - squares).abs().mean().item()
    facts = {**asdict(use), "images": len(squares), "mean_absolute_error": error}
    return facts, sheet_of_columns([squares[:SHOWN_IMAGES], decoded[:SHOWN_IMAGES]])


def central_squares(images: Images, count: int, side: int) -> Tensor:
    """Return (n, 3, side, side) in [0, 1]: central squares of images spread over the data."""
    numbers = spread(len(images), count)
    squares = [center_square(read_or_replace(images, i, (0, 0))[0], (side,)) for i in numbers]
    crops = [square for (square,) in squares]
    return torch.stack([to_tensor(crop) for crop in crops]).float() / 255
