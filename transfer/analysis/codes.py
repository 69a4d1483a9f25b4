"""What a tokenizer's codes say of an image's content, in nats, against a patch's mean colour.

A code is worth predicting if it tells the class of its patch. Told is the entropy of a patch's
label, less its cross-entropy given the code: both on held-out images, with frequencies counted on
the others, so that many rare codes do not look informative by chance. The same is asked of the mean
colour of the patch, in as many clusters as there are codes in use.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.sources import open_images
from pretrain.files.write import atomic_write
from pretrain.run.sheet import sheet_of_columns, spread
from pretrain.tokenizer.vae import DiscreteVAE, read_tokenizer
from transfer.analysis.images import read_squares

PRIOR = 1.0  # patches of the marginal that are added to the counts of each code
SHOWN = 6  # images of the picture
BATCH = 32
Ids = NDArray[np.int64]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """Nats of a patch's label: its entropy, and how much of it code and colour tell."""

    label_entropy: float
    by_code: float
    by_mean_color: float
    codes_used: int
    patches: int


def codes(
    tokenizers: Sequence[str], data: Path, labels: Path, count: int, size: int, out: Path
) -> dict[str, Any]:
    """Write codes_LABEL.png of each tokenizer; return its figures.

    `labels` holds a label map for each image, of the same name. A token covers `size` / 8 px of the
    square that an image is resized to. Raises ValueError for fewer than two images, or maps that do
    not fit.
    """
    numbers: dict[str, Any] = {}
    squares = read_squares(data, count, size).float().div(255)
    maps = read_label_squares(data, labels, count, size)
    for text in tokenizers:
        label, equals, file = text.partition("=")
        vae = read_tokenizer(Path(file if equals else text))
        name = label if equals else Path(text).stem
        numbers[name] = asdict(told(vae, squares, maps))
        picture = _picture(vae, squares, maps)
        atomic_write(out / f"codes_{name}.png", lambda to, p=picture: p.save(to, "png"))  # type: ignore[misc]
    return numbers


def read_label_squares(data: Path, labels: Path, count: int, size: int) -> Tensor:
    """Return the central squares of the images' label maps, (n, size, size) int64.

    Raises ValueError for an image without a map, or a map that is not of one channel.
    """
    images = open_images(data)
    found = []
    for number in spread(len(images), count):
        path = labels / Path(images.name(number)).with_suffix(".png").name
        if not path.is_file():
            raise ValueError(f"no label map {path} for the image {images.name(number)}")
        with Image.open(path) as opened:
            if opened.mode not in ("L", "P"):
                raise ValueError(f"{path} is a {opened.mode} picture: label maps have one channel")
            side = min(opened.size)
            left, top = (opened.width - side) // 2, (opened.height - side) // 2
            box = (left, top, left + side, top + side)
            resized = opened.resize((size, size), Image.Resampling.NEAREST, box)
            found.append(torch.from_numpy(np.array(resized)).long())
    return torch.stack(found)


def told(vae: DiscreteVAE, squares: Tensor, maps: Tensor) -> Told:
    """Return what codes and mean colours tell of the labels of their patches.

    `squares` (n, 3, H, W) in [0, 1]; `maps` (n, H, W). Odd images are counted, even ones held out.
    Raises ValueError for fewer than two images.
    """
    if len(squares) < 2:
        raise ValueError("give two images or more: half of them are held out")
    side = vae.downsampling
    tokens = torch.cat([vae.tokens(part) for part in squares.split(BATCH)]).numpy()
    shares = _label_shares(maps, side)  # (n, patches, labels)
    colors = F.avg_pool2d(squares, side).flatten(2).transpose(1, 2).numpy().astype(np.float64)
    counted = np.arange(len(squares)) % 2 == 1
    used = len(np.unique(tokens[counted]))
    clusters = _clusters(colors, counted, used)
    held = shares[~counted].reshape(-1, shares.shape[-1])
    known = shares[counted].reshape(-1, shares.shape[-1])
    entropy = _cross_entropy(held, np.zeros(len(held), int), known, np.zeros(len(known), int))
    given = {
        name: _cross_entropy(held, ids[~counted].ravel(), known, ids[counted].ravel())
        for name, ids in (("code", tokens), ("color", clusters))
    }
    return Told(
        label_entropy=entropy,
        by_code=entropy - given["code"],
        by_mean_color=entropy - given["color"],
        codes_used=used,
        patches=len(held),
    )


def _label_shares(maps: Tensor, side: int) -> Shares:
    """Return the share of each label in each patch, (n, patches, labels)."""
    one_hot = F.one_hot(maps, int(maps.max()) + 1).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(one_hot, side).flatten(2).transpose(1, 2).numpy().astype(np.float64)


def _clusters(colors: Shares, counted: NDArray[np.bool_], k: int) -> Ids:
    """Return the nearest of at most `k` colours for each patch, (n, patches)."""
    known = colors[counted].reshape(-1, 3)
    k = min(k, len(np.unique(known, axis=0)))
    centers, _ = kmeans2(known, k, minit="++", seed=0)
    nearest, _ = vq(colors.reshape(-1, 3), centers)
    return nearest.reshape(colors.shape[:2]).astype(np.int64)


def _cross_entropy(held: Shares, held_ids: Ids, known: Shares, known_ids: Ids) -> float:
    """Return the mean of - sum_l q(l) log p(l | id) over held-out patches, in nats."""
    counts = np.zeros((1 + int(max(held_ids.max(), known_ids.max())), known.shape[1]))
    np.add.at(counts, known_ids, known)
    marginal = known.sum(0) + 1e-3  # a label that only held-out images have
    counts += PRIOR * marginal / marginal.sum()
    p = counts / counts.sum(1, keepdims=True)
    return float(-(held * np.log(p[held_ids])).sum(1).mean())


def _picture(vae: DiscreteVAE, squares: Tensor, maps: Tensor) -> Image.Image:
    """Return images, decoded tokens, and codes painted as the label that they most often have."""
    side, shown = vae.downsampling, slice(0, SHOWN)
    grid = [extent // side for extent in squares.shape[-2:]]
    tokens = torch.cat([vae.tokens(part) for part in squares.split(BATCH)])
    shares = torch.from_numpy(_label_shares(maps, side)).flatten(0, 1)
    by_code = torch.zeros(vae.vocab_size, shares.shape[-1], dtype=shares.dtype)
    by_code.index_add_(0, tokens.flatten(), shares)
    guess = by_code.argmax(1)[tokens[shown]].unflatten(1, grid)
    guessed = guess.repeat_interleave(side, 1).repeat_interleave(side, 2)
    columns = [squares[shown]]
    if vae.decoder is not None:
        columns.append(vae.decode(tokens[shown].unflatten(1, grid)))
    return sheet_of_columns([*columns, _colored(guessed), _colored(maps[shown])])


def _colored(labels: Tensor) -> Tensor:
    """Return (n, 3, H, W) in [0, 1]: each label in a colour of its own, 0 in black."""
    from matplotlib import colormaps

    table = torch.tensor([(0.0, 0.0, 0.0), *(colormaps["tab20"](i % 20)[:3] for i in range(255))])
    return table[labels].permute(0, 3, 1, 2)
