"""Predictions beside the ground truth in the data set's colours, and IoU by class as bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, MODELS
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pretrain.files.write import atomic_write
from pretrain.run.folder import RECORD, STATE, RunFolder
from pretrain.run.sheet import GAP_PX, contact_sheet, spread
from transfer.results.record import read_result

# Some are imported for what they register: the parts of a trained segmentor.
from transfer.segmentation import backbone, linear_head  # noqa: F401
from transfer.segmentation.config import with_tuples
from transfer.segmentation.identity import architecture_of, identity_of_former
from transfer.segmentation.labels import IGNORED
from transfer.segmentation.segmentor import set_pixels
from transfer.segmentation.state import evaluated_weights, load
from transfer.weights.identity import PixelStats

TILE_PX = 192
LINE_PX = 14
BLACK = (0, 0, 0)


def draw(run_dir: Path, out: Path, count: int = 4) -> Path:
    """Draw image, truth and prediction of `count` evaluation images of a run into the PNG `out`."""
    model, data = load_trained(Path(run_dir))
    return draw_predictions(model, data, Path(out), count)


def load_trained(run_dir: Path) -> tuple[Any, Any]:
    """Return the trained segmentor in evaluation mode, and its evaluation set.

    FileNotFoundError or ValueError for a folder that does not hold a segmentation run.
    """
    state = load(run_dir / STATE)
    settings = identity_of_former(RunFolder(run_dir, RECORD))
    cfg = Config(with_tuples(settings["config"]))
    cfg["model"]["backbone"].update(architecture_of(settings))
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(cfg["model"])
        data = DATASETS.build(cfg["val_dataloader"]["dataset"])
    if cfg["pixels"] == "weights":
        set_pixels(model.data_preprocessor, PixelStats(**settings["pixels"]))
    model.load_state_dict(evaluated_weights(state), strict=True)
    return model.eval(), data


def draw_predictions(model: Any, data: Any, out: Path, count: int) -> Path:
    """Draw as `draw` does, with a model and an evaluation set; images are spread over the set."""
    palette, names = data.metainfo["palette"], data.metainfo["classes"]
    rows, shown = [], set()
    for index in spread(len(data), count):
        image, truth, predicted = predict_one(model, data, index)
        shown |= set(np.unique(truth)) | set(np.unique(predicted))
        tiles = [image, colours(truth, palette), colours(predicted, palette)]
        rows.append([tile(t) for t in tiles])
    canvas = with_legend(contact_sheet(rows), sorted(shown - {IGNORED}), names, palette)
    atomic_write(out, lambda path: canvas.save(path, format="PNG"))
    return out


@torch.no_grad()
def predict_one(
    model: Any, data: Any, index: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return RGB image (H, W, 3), true and predicted classes (H, W) of one evaluation image."""
    was_training = model.training
    model.eval()
    (result,) = model.test_step(pseudo_collate([data[index]]))
    model.train(was_training)
    predicted = result.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8)
    truth = result.gt_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8)
    with Image.open(result.img_path) as image:
        return np.asarray(image.convert("RGB")), truth, predicted


def colours(classes: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Turn classes (H, W) into colours (H, W, 3); what is ignored is black."""
    table = np.zeros((IGNORED + 1, 3), np.uint8)
    table[: len(palette)] = palette
    return table[classes]


def tile(picture: NDArray[np.uint8]) -> Image.Image:
    """Fit (H, W, 3) into a square of TILE_PX, at the left and the top."""
    image = Image.fromarray(picture)
    scale = TILE_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (TILE_PX, TILE_PX), "white")
    square.paste(image.resize(size, Image.Resampling.NEAREST))
    return square


def with_legend(
    picture: Image.Image,
    shown: Sequence[int],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Image.Image:
    """Add column titles above, and below the colours of the classes that appear."""
    width, height = picture.size
    columns = max(1, width // 190)
    lines = -(-len(shown) // columns)
    canvas = Image.new("RGB", (width, height + (lines + 2) * LINE_PX), "white")
    canvas.paste(picture, (0, LINE_PX))
    pen = ImageDraw.Draw(canvas)
    for i, title in enumerate(("image", "ground truth (black: ignored)", "prediction")):
        pen.text((i * (TILE_PX + GAP_PX) + 2, 1), title, fill=BLACK)
    for i, index in enumerate(shown):
        x, y = i % columns * 190 + 2, height + LINE_PX * (1 + i // columns) + 4
        pen.rectangle((x, y, x + 10, y + 10), fill=tuple(palette[index]), outline=BLACK)
        pen.text((x + 15, y), names[index][:28], fill=BLACK)
    return canvas


def draw_class_bars(run_dir: Path, out: Path) -> Path:
    """Draw the IoU of every class of a finished run, highest first, into the PNG file `out`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    result = read_result(run_dir)
    ranked = sorted(result.per_class["IoU"].items(), key=lambda item: item[1])
    figure, axes = plt.subplots(figsize=(6, 1 + 0.18 * len(ranked)), layout="constrained")
    axes.barh([name for name, _ in ranked], [value for _, value in ranked], color="#0077b6")
    axes.axvline(result.metrics["mIoU"], color="black", linewidth=1)
    axes.set(xlim=(0, 100), xlabel="IoU, %", title=f"mIoU {result.metrics['mIoU']:.1f}")
    axes.margins(y=0.01)
    atomic_write(Path(out), lambda path: figure.savefig(path, format="png", dpi=100))
    plt.close(figure)
    return Path(out)
