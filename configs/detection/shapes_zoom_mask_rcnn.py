"""Mask R-CNN on the embedded benchmark (make_shapes.py --for benchmark): images of 256 px.

Everything is that of shapes_mask_rcnn.py, with anchors for scenes of twice the size.
"""

from .shapes_mask_rcnn import config

config.model.anchor_sizes = [48, 96, 192, 288, 384]
