"""ConvNeXt V2-B, Mask R-CNN 3x with large-scale jitter and soft-NMS (FCMAE weights).

Source: ConvNeXt V2 paper (arXiv 2301.00808) appendix A.3. No config was released; layer decay was
swept over 0.9, 0.95 and drop path over 0.2, 0.3, 0.4, 0.5, the choice a model is not stated.
MMDetection's re-run reached 52.9 / 46.4 with these two (paper: 52.9 / 46.6).
"""

from .base.convnextv2_3x import config

config.arch = "convnextv2_base"
config.output_dir = "outputs/convnextv2_base_3x"
config.layer_decay = 0.95  # MMDetection's re-run
config.features.drop_path_rate = 0.4  # MMDetection's re-run
