"""A timm encoder as feature maps for dense tasks.

timm_features.py   {"res2": ..., "res5": ...} from any timm architecture, bit for bit timm's
plain_vit.py       plain ViTs, BEiT's among them, at any image size
decomposed.py      ViTDet's relative positions: a table for rows, one for columns
position.py        position embeddings and bias tables at another size
pyramid.py         the maps of a plain ViT at strides 4 to 32
layer_decay.py     the layer of each parameter, for layer-wise learning rates
"""

from transfer.features.timm_features import TimmFeatures

__all__ = ["TimmFeatures"]
