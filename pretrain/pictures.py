"""Pictures of what a method reconstructs: input, masked, prediction pasted in, raw prediction."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from pretrain.config import Recipe, recipe_from_json
from pretrain.data.augment import center_square
from pretrain.data.batches import Batch, to_tensor, unnormalise
from pretrain.data.reading import read_or_replace
from pretrain.data.sources import Images
from pretrain.files.training_state import read_state
from pretrain.methods import Method, build_method
from pretrain.methods.build import crop_sizes, mask_drawer
from pretrain.run import folder
from pretrain.run.sheet import sheet_of_columns

GREY = 0.5  # of a masked patch


def method_of_run(run: Path, seed: int | None = None) -> tuple[Method, Recipe]:
    """Return the method of an output folder of tools/pretrain.py as it is trained, and its recipe.

    `seed` replaces the recipe's. Raises FileNotFoundError for another folder, ValueError for a
    training state that is damaged.
    """
    if not (run / folder.RUN).is_file():
        raise FileNotFoundError(f"{run} is not an output folder of tools/pretrain.py")
    try:
        recipe = recipe_from_json(folder.read_json(run / folder.RUN))
    except ValueError as error:
        raise ValueError(f"{run / folder.RUN}: {error}") from error
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    state = read_state(run / folder.STATE, "pretraining")
    own = getattr(recipe.method, "tokenizer", "")
    method = build_method(recipe, Path(own) if own else run / folder.TOKENIZER)
    method.load_state_dict(state["model"])
    return method, recipe


def picture_batch(images: Images, numbers: Sequence[int], recipe: Recipe, method: Method) -> Batch:
    """Return the central squares of images `numbers`, with masks seeded by (seed, image)."""
    sizes = crop_sizes(recipe, method)
    crops = [center_square(read_or_replace(images, i, (recipe.seed, 0))[0], sizes) for i in numbers]
    draw = mask_drawer(recipe, method)
    visible = [draw(np.random.default_rng([recipe.seed, i])) for i in numbers]
    columns = [
        torch.stack([to_tensor(crop) for crop in column]) for column in zip(*crops, strict=True)
    ]
    masks = torch.from_numpy(np.stack(visible))[:, None]
    return Batch(columns[0], masks, columns[1] if len(columns) == 2 else None)


@torch.no_grad()
def reconstructions(method: Method, batch: Batch, recipe: Recipe) -> Image.Image:
    """Draw one row per image, four columns; the method is in evaluation mode meanwhile."""
    device = next(method.parameters()).device
    inputs = batch.inputs(device, recipe.augmentation)
    training = method.training
    method.eval()
    predicted = method.reconstruct(*inputs).float()
    method.train(training)
    raw = unnormalise(predicted, recipe.augmentation)
    true = unnormalise(inputs[0], recipe.augmentation)
    height, width = true.shape[-2:]
    visible = nn.functional.interpolate(inputs[1].float(), (height, width)) > 0.5  # nearest
    columns = [true, true.where(visible, GREY), true.where(visible, raw), raw]
    return sheet_of_columns(columns)
