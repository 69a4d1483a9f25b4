"""Pictures of what a method reconstructs: input, masked, prediction pasted in, raw prediction."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn

from pretrain.config import Recipe
from pretrain.data.augment import center_square
from pretrain.data.batches import Batch, to_tensor, unnormalise
from pretrain.data.reading import read_or_replace
from pretrain.data.sources import Images
from pretrain.methods import Method
from pretrain.methods.build import crop_sizes, mask_drawer
from pretrain.run.sheet import sheet_of_columns

GREY = 0.5  # of a masked patch


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
