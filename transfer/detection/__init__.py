"""Mask R-CNN in Detectron2: the only place that imports it."""

from transfer.detection import compat as compat
