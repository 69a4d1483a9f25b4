"""Images as patches: the normalised-pixel target that SparK and FCMAE share (MAE section 3)."""

import torch
from torch import Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, 3, h p, w p) -> (B, h w, p p 3): raster order of patches, then of pixels, then RGB."""
    grid = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (B, 3, h, p, w, p)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """Undo `patchify`."""
    cells = patches.unflatten(2, (patch, patch, 3)).unflatten(1, grid)  # (B, h, w, p, p, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each patch, (..., 1); unbiased variance, eps 1e-6."""
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (var + 1e-6).sqrt()


def masked_patch_loss(
    prediction: Tensor, images: Tensor, visible: Tensor, *, normalise: bool = True
) -> Tensor:
    """Return the mean squared error on the masked patches, each normalised by its own mean and std.

    prediction (B, h w, p p 3), images (B, 3, h p, w p), visible (B, 1, h, w). `normalise` False:
    the patches as they are.
    """
    target = patchify(images, images.shape[2] // visible.shape[2])
    if normalise:
        mean, std = patch_statistics(target)
        target = (target - mean) / std
    error = (prediction - target).square().mean(-1)  # (B, h w)
    masked = ~visible.flatten(1)  # weighed, not gathered: shapes stay static
    return (error * masked).sum() / masked.sum()


def unnormalise_patches(prediction: Tensor, images: Tensor, patch: int) -> Tensor:
    """Return a prediction (B, 3, H, W) of normalised patches in the pixel space of `images`."""
    mean, std = patch_statistics(patchify(images, patch))
    grid = images.shape[2] // patch, images.shape[3] // patch
    return unpatchify(patchify(prediction, patch) * std + mean, patch, grid)


def patch_grid(image_size: int, patch: int) -> tuple[int, int]:
    """Patches along (height, width) of a square image; ValueError if they do not fit."""
    if image_size % patch:
        raise ValueError(f"image_size={image_size} is not a multiple of the patch, {patch} px")
    return image_size // patch, image_size // patch
