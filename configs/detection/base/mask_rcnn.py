"""Every key a detection config has, with Detectron2's own Mask R-CNN settings.

Built upon by the configs one folder up: `from .base.mask_rcnn import config`.
"""

import detectron2.data.transforms as T
import torch
from detectron2.config import LazyCall as L

from transfer.detection.mask_rcnn import mask_rcnn

config = dict(
    weights="none",  # a weights file; "none": from scratch; control:shuffled:FILE, control:random
    weights_source=None,  # the file's layout, where it cannot be told by its tensors
    fresh=[],  # encoder tensors the file may lack (patterns); anything else missing is an error
    unused=[],  # tensors of the file that may be left over (patterns)
    # None: the weights file's; or {"mean": [...], "std": [...], "color_order": "RGB"}, in [0, 1]
    pixels=None,
    arch=None,  # a timm architecture; None takes it from the weights file
    arch_args={},  # its arguments
    checkpoint=None,  # a detector for --eval-only; None: output_dir's model_final.pth or state.pt
    config_file=None,  # set by the tools: the file that this config was read from
    seed=0,
    output_dir="outputs/detection",
    budget="full",  # full | quarter (a quarter of the steps) | debug (20 steps)
    freeze="none",  # none | backbone (the encoder is fixed; its pyramid and the heads learn)
    freeze_stages=0,  # ResNets: Detectron2's FREEZE_AT (2 fixes the stem and res2)
    backbone_norm="BN",  # BatchNorm of the encoder: BN | SyncBN (over all GPUs) | FrozenBN
    allow_findings=[],  # errors of the data check to accept, by code
    features=dict(
        drop_path_rate=0.0,
        norm_outputs=None,  # None: a fresh norm an output for ConvNeXt families only
        pyramid="auto",  # simple feature pyramid for plain ViTs, FPN for everything else
        blocks=None,
        image_size=None,  # plain ViTs: pixels at which position parameters are stored
        window_size=0,  # plain ViTs: patches along a window's side; 0 is global attention
        global_blocks=[],  # with windows: blocks that stay global; [] is four, evenly spread
        # plain ViTs: ViTDet's relative positions, stored for images of so many pixels a side
        decomposed_position=None,
        stride_in_1x1=False,  # ResNets: as MSRA's weights, which Detectron2's model zoo starts from
        grad_checkpointing=False,  # compute activations of the encoder twice, to save memory
    ),
    # Mask R-CNN with FPN as in Detectron2's configs/common/models/mask_rcnn_fpn.py
    model=L(mask_rcnn)(
        masks=True,
        cascade=False,
        stage_loss_weights=None,  # of a cascade: [1, 0.5, 0.25] as MMDetection; None: Detectron2's
        channels=256,
        fpn_norm="",
        square_pad=0,  # plain ViTs: pad images with zeros to a square of so many pixels
        anchor_sizes=[32, 64, 128, 256, 512],
        rpn_convs=1,
        rpn_batch=256,
        rpn_loss_beta=0.0,  # where smooth L1 turns linear; 0: L1
        rpn_boundary_px=-1.0,  # train on no anchor further outside of the image; -1: on all
        pre_nms_topk=[2000, 1000],  # training, test
        post_nms_topk=[1000, 1000],
        roi_batch=512,
        box_convs=[],
        box_fcs=[1024, 1024],
        mask_convs=[256, 256, 256, 256],
        box_norm="",
        mask_norm="",
        box_loss="smooth_l1",
        score_threshold=0.05,
        nms_threshold=0.5,
        soft_nms=None,  # or {"method": "linear" | "gaussian", "iou_threshold": ..., "sigma": ...,
        #                "min_score": ...}
        max_detections=100,
        arithmetic="detectron2",  # or mmdetection: transfer/detection/mmdet.py; for its detectors
    ),
    data=dict(
        name="coco_2017",
        root=None,  # None: $DETECTRON2_DATASETS, else datasets/
        train_json="{root}/coco/annotations/instances_train2017.json",
        train_images="{root}/coco/train2017",
        train_share=1.0,  # of the training images with objects; lowest SHA-256 of the file name
        val_json="{root}/coco/annotations/instances_val2017.json",
        val_images="{root}/coco/val2017",
    ),
    # configs/common/data/coco.py
    input=dict(
        train=[
            L(T.ResizeShortestEdge)(
                short_edge_length=[640, 672, 704, 736, 768, 800],
                sample_style="choice",
                max_size=1333,
            ),
            L(T.RandomFlip)(),
        ],
        test=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
        recompute_boxes=False,  # boxes from the masks again, after cropping
    ),
    optimizer=L(torch.optim.AdamW)(lr=1e-4, weight_decay=0.05, betas=[0.9, 0.999]),
    layer_decay=1.0,  # learning-rate decay from layer to layer, towards the image
    layer_decay_rule="auto",  # of transfer/features/layer_decay.py; auto takes the architecture's
    no_weight_decay="norms",  # nothing | norms | norms_and_pos_embed | vectors
    # 1x: 90 000 steps of 16 images are 12.3 epochs of 117 266 images
    schedule=dict(
        steps=90_000, milestones=[60_000, 80_000], gamma=0.1, warmup_steps=1000, warmup_factor=0.001
    ),
    train=dict(
        batch_size=16,  # images a step, over all processes and accumulated passes
        accumulation_steps=1,  # forward and backward passes a step, in each process
        precision="fp32",  # or bf16; fp16 with a scaled loss for GPUs that only emulate bf16
        clip_norm=None,  # largest norm of all gradients together; None: not clipped
        ema_decay=None,  # of the averaged weights that are evaluated; None: none are kept
        compile=False,
        workers=4,  # data processes a process
        device="auto",  # or cpu, cuda
        log_steps=20,
        checkpoint_steps=1000,
        keep_states=1,  # the last training states that are kept
        eval_steps=None,  # steps between evaluations; None: only at the end
    ),
    test=dict(
        batch_size=1,
        engine="faster-coco-eval",  # or pycocotools
        precise_bn=0,  # batches to recompute BatchNorm's statistics from before evaluation
        tta=None,  # or {"sizes": [400, 600, 800], "max_size": 1333, "flip": True}
        pictures=4,
    ),
)
