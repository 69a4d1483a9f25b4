"""ConvNeXt V2-L, Mask R-CNN 3x with large-scale jitter and soft-NMS (FCMAE weights).

Source: ConvNeXt V2 paper (arXiv 2301.00808) appendix A.3. No config was released; layer decay was
swept over 0.9, 0.95 and drop path over 0.2, 0.3, 0.4, 0.5, the choice a model is not stated.
"""

from .base.convnextv2_3x import config

config.arch = "convnextv2_large"
config.output_dir = "outputs/convnextv2_large_3x"
config.layer_decay = 0.95  # not stated in the paper; ours
config.features.drop_path_rate = 0.5  # not stated in the paper; ours
