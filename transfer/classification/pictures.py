"""What a classifier confuses, and the images on which it is surest of a wrong class, as one PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageOps
from torch import Tensor

from pretrain.data.reading import read_image
from pretrain.files.write import atomic_write
from transfer.classification.predictions import Predictions, most_confused
from transfer.datasets.class_split import ClassSplit

MOST_CLASSES = 25  # of a matrix; of more classes the pairs most confused
MOST_NUMBERS = 12  # classes of a matrix with its counts in the cells
MOST_PAIRS = 15
COLUMNS = 6  # of images
IMAGE_INCHES = 1.5
CAPTION_INCHES = 0.62
IMAGE_PX = 144
LABEL = 24  # characters of a class name
LABELS_INCHES, CELL_INCHES, BAR_INCHES = 2.2, (0.2, 0.5), 0.24
DPI = 110
BLUE = "#0077b6"
PLAIN = {"parse_math": False}  # a dollar sign in the name of a class is not mathematics


def draw(split: ClassSplit, found: Predictions, out: Path, count: int = 12) -> Path:
    """Draw the confusions of a split and the `count` surest mistakes into the PNG `out`."""
    labels = torch.from_numpy(split.labels)
    wrong = found.wrong(labels)[:count].tolist()
    above = _height_of_confusions(len(split.classes))
    rows = max(1, -(-len(wrong) // COLUMNS))
    below = rows * (IMAGE_INCHES + CAPTION_INCHES) + 0.4
    figure = Figure(figsize=(COLUMNS * IMAGE_INCHES, above + below), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[above, below])
    top, bottom = parts
    _draw_confusions(top, found.confusion(labels, len(split.classes)), split.classes)
    _draw_mistakes(bottom, split, found, wrong, rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, lambda path: figure.savefig(path, format="png", dpi=DPI))
    return out


def _height_of_confusions(classes: int) -> float:
    """Return the height in inches of what is above the images."""
    if classes > MOST_CLASSES:
        return 1.2 + BAR_INCHES * MOST_PAIRS
    low, high = CELL_INCHES
    return LABELS_INCHES + classes * max(low, min(high, 4 / classes))


def _draw_confusions(figure: SubFigure, confusion: Tensor, names: Sequence[str]) -> None:
    axis = figure.subplots()
    right, all_images = int(confusion.diagonal().sum()), int(confusion.sum())
    figure.suptitle(f"{right:,} of {all_images:,} images right: {100 * right / all_images:.1f} %")
    if len(names) <= MOST_CLASSES:
        _draw_matrix(figure, axis, confusion, [short(name) for name in names])
    else:
        _draw_pairs(axis, confusion, names)


def _draw_matrix(figure: SubFigure, axis: Axes, confusion: Tensor, names: Sequence[str]) -> None:
    """Draw rows of true classes over columns of predicted ones, coloured by the share of a row."""
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    image = axis.imshow(100 * shares.numpy(), cmap="Blues", vmin=0, vmax=100)
    places = range(len(names))
    axis.set_xticks(places, labels=names, rotation=45, ha="right", rotation_mode="anchor", **PLAIN)
    axis.set_yticks(places, labels=names, **PLAIN)
    axis.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axis, label="% of the true class", shrink=0.8)
    for row in places if len(names) <= MOST_NUMBERS else ():
        for column in places:
            if count := int(confusion[row, column]):
                ink = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, f"{count:,}", ha="center", va="center", color=ink)


def _draw_pairs(axis: Axes, confusion: Tensor, names: Sequence[str]) -> None:
    """Draw bars of the pairs of classes that are confused most, in images."""
    pairs = most_confused(confusion, MOST_PAIRS)
    axis.barh(range(len(pairs)), [pair.images for pair in pairs], color=BLUE)
    labels = [f"{short(names[p.truth])} → {short(names[p.taken_for])}" for p in pairs]
    axis.set_yticks(range(len(pairs)), labels=labels, **PLAIN)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="images", title="true class → predicted class, most confused first")
    for place, pair in enumerate(pairs):
        axis.text(pair.images, place, f" {pair.images} of {pair.of}", va="center")


def _draw_mistakes(
    figure: SubFigure, split: ClassSplit, found: Predictions, wrong: Sequence[int], rows: int
) -> None:
    """Draw the images of the surest mistakes with the true class, the predicted one, how sure."""
    title = "Surest mistakes: true class → predicted class" if wrong else "No image is wrong"
    figure.suptitle(title)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, number in zip(axes, wrong, strict=False):
        axis.imshow(thumbnail(read_image(split.images, number)))
        said, sure = int(found.classes[number]), 100 * float(found.confidences[number])
        truth, taken_for = short(split.classes[split.labels[number]]), short(split.classes[said])
        text = f"{truth}\n→ {taken_for}\n{sure:.1f} % sure"
        axis.set_title(text, fontsize="x-small", **PLAIN)


def thumbnail(image: Any) -> Image.Image:
    """Return a PIL image fitted into a square of IMAGE_PX on white; small ones are enlarged."""
    return ImageOps.pad(image.convert("RGB"), (IMAGE_PX, IMAGE_PX), color="white")


def short(name: str) -> str:
    """Return a name in one line, its middle cut out where it is longer than LABEL characters."""
    name, half = " ".join(name.split()), (LABEL - 1) // 2
    return name if len(name) <= LABEL else f"{name[:half].rstrip()}…{name[-half:].lstrip()}"
