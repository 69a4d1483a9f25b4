# A linear classifier on the frozen maps of any encoder: give weights=FILE. Plain ViTs give the maps
# of four blocks, at the stride of their patches.
_base_ = ["_base_/linear.py"]
