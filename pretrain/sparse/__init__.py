"""Convnets that see only the visible patches (SparK section 3.1, ConvNeXt V2 section 3).

Two ways to compute the same features and gradients:

    patches.py   the visible patches are the batch: (B, 3, H, W) -> (n, 3, p, p)
    dense.py     the whole map, multiplied by the mask after each layer; the reference

    masked.py          a timm convnet under one of them; refuses a layer that cannot run on patches
    view.py            index tables between a map and its visible patches, with a picture
    rows.py            cells read and written at indices that are all different
    halo.py            windows that reach past a patch, gathered on the CPU;
    canvas.py          elsewhere cut out of the whole map
    depthwise.py, products.py   convolutions by the C kernel and as matrix products, on the CPU
    excitation.py      squeeze-excitation by the means over the visible positions of an image
    response_norm.py   GRN over the visible positions of an image
"""

from pretrain.sparse.masked import MaskedEncoder, mask_layers
from pretrain.sparse.view import DenseView, MaskSlot, PatchView, View

__all__ = ["DenseView", "MaskSlot", "MaskedEncoder", "PatchView", "View", "mask_layers"]
