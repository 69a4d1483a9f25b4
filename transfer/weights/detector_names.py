"""Names of released detectors' tensors -> those of our Mask R-CNN, which are Detectron2's."""

from transfer.weights.sources.base import NameTable

FEATURES = "backbone.bottom_up.features."
ENCODER = f"{FEATURES}encoder."
RPN = "proposal_generator.rpn_head."
BOXES = "roi_heads.box_head."
MASKS = "roi_heads.mask_head."
OPENMMLAB = ("mmdet_convnext", "convnext")  # MMDetection's heads
# the pyramid's levels: ViTDet's place of the 1x1 convolution, after what rescales the map
FIRST_CONVOLUTION = {2: 4, 3: 1, 4: 0, 5: 1}
VITDET_NAMES: NameTable = (
    (r"^backbone\.net\.", ENCODER),
    (r"^backbone\.simfp_2\.([0-3])\.", rf"{FEATURES}pyramid.res2.0.\1."),
    (r"^backbone\.simfp_3\.0\.", f"{FEATURES}pyramid.res3.0."),
    *(
        (rf"^backbone\.simfp_{level}\.{first + i}\.{old}", f"{FEATURES}pyramid.res{level}.{new}.")
        for level, first in FIRST_CONVOLUTION.items()
        for i in (0, 1)
        for old, new in ((r"norm\.", 2 * i + 2), ("", 2 * i + 1))
    ),
)
MMDET_NAMES: NameTable = (
    *((rf"^backbone\.norm{i}\.", f"{FEATURES}norms.res{i + 2}.") for i in range(4)),
    *(
        (rf"^neck\.{old}_convs\.{i}\.conv\.", f"backbone.fpn_{new}{i + 2}.")
        for i in range(4)
        for old, new in (("lateral", "lateral"), ("fpn", "output"))
    ),
    (r"^rpn_head\.rpn_conv\.", f"{RPN}conv."),
    (r"^rpn_head\.rpn_cls\.", f"{RPN}objectness_logits."),
    (r"^rpn_head\.rpn_reg\.", f"{RPN}anchor_deltas."),
    (r"^roi_head\.bbox_head\.(\d\.)?fc_cls\.", r"roi_heads.box_predictor.\1cls_score."),
    (r"^roi_head\.bbox_head\.(\d\.)?fc_reg\.", r"roi_heads.box_predictor.\1bbox_pred."),
    (r"^roi_head\.mask_head\.(\d\.)?upsample\.", r"roi_heads.mask_head.\1deconv."),
    (r"^roi_head\.mask_head\.(\d\.)?conv_logits\.", r"roi_heads.mask_head.\1predictor."),
    *(
        rule
        for i in range(8)
        for rule in (
            (rf"^roi_head\.bbox_head\.(\d\.)?shared_fcs\.{i}\.", rf"{BOXES}\g<1>fc{i + 1}."),
            (
                rf"^roi_head\.bbox_head\.(\d\.)?shared_convs\.{i}\.conv\.",
                rf"{BOXES}\g<1>conv{i + 1}.",
            ),
            (
                rf"^roi_head\.bbox_head\.(\d\.)?shared_convs\.{i}\.bn\.",
                rf"{BOXES}\g<1>conv{i + 1}.norm.",
            ),
            (
                rf"^roi_head\.mask_head\.(\d\.)?convs\.{i}\.conv\.",
                rf"{MASKS}\g<1>mask_fcn{i + 1}.",
            ),
        )
    ),
)
NAMES = {"vitdet": VITDET_NAMES, **dict.fromkeys(OPENMMLAB, MMDET_NAMES)}
