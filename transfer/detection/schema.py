"""The types and ranges of a detection config's own keys (configs/detection/base/mask_rcnn.py).

Augmentations (`input`) and the optimizer's class are Detectron2's and torch's: their arguments are
theirs, but for those that every optimizer here has.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from pretrain.run.schema import (
    ClosedSettings,
    Count,
    Decay,
    DropRate,
    ImageShare,
    LayerDecay,
    LearningRate,
    NotNegative,
    Positive,
    Seed,
    Settings,
    Share,
    Text,
    WeightDecay,
    Whole,
)

Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
Colors = Annotated[list[Share], Field(min_length=3, max_length=3)]
Names = list[str]
Norm = Literal[
    "", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN"
]  # Detectron2's


class Pixels(ClosedSettings):
    """How pixels are normalised, in [0, 1]."""

    mean: Colors
    std: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=3)]
    color_order: Literal["RGB", "BGR"]


class Features(ClosedSettings):
    """The encoder as a backbone."""

    drop_path_rate: DropRate
    norm_outputs: bool | None
    pyramid: Literal["auto", "simple", "blocks"] | None
    blocks: list[Whole] | None
    image_size: Count | None
    window_size: Whole
    global_blocks: list[Whole]
    decomposed_position: Count | None
    stride_in_1x1: bool
    grad_checkpointing: bool


class SoftNms(ClosedSettings):
    """Soft-NMS in place of NMS."""

    method: Literal["linear", "gaussian"]
    iou_threshold: Share
    sigma: Positive
    min_score: Share


class Model(Settings):
    """The detector."""

    masks: bool
    cascade: bool
    stage_loss_weights: Annotated[list[NotNegative], Field(min_length=3, max_length=3)] | None = (
        None
    )
    channels: Count
    fpn_norm: Norm
    box_norm: Norm
    mask_norm: Norm
    square_pad: Whole
    anchor_sizes: Annotated[list[Positive], Field(min_length=5, max_length=5)]
    rpn_convs: Count
    rpn_batch: Count
    rpn_loss_beta: NotNegative
    rpn_boundary_px: Annotated[float, Field(ge=-1)]
    pre_nms_topk: Pair
    post_nms_topk: Pair
    roi_batch: Count
    box_convs: list[Count]
    box_fcs: list[Count]
    mask_convs: Annotated[list[Count], Field(min_length=1)]
    box_loss: Literal["smooth_l1", "giou"]
    score_threshold: DropRate
    nms_threshold: Share
    soft_nms: SoftNms | None
    max_detections: Count
    arithmetic: Literal["detectron2", "mmdetection"]


class Data(ClosedSettings):
    """Where the images and annotations are."""

    name: Text
    root: Text
    train_json: Text | None
    train_images: Text | None
    train_share: ImageShare
    val_json: Text
    val_images: Text


class Input(ClosedSettings):
    """Detectron2's augmentations of training and test images."""

    train: list[Any]
    test: list[Any]
    recompute_boxes: bool


class Optimizer(Settings):
    """What all optimizers share."""

    lr: LearningRate
    weight_decay: WeightDecay
    betas: Annotated[list[DropRate], Field(min_length=2, max_length=2)] = Field([0.9, 0.999])
    momentum: DropRate = 0.0


class Schedule(ClosedSettings):
    """The length of training and the learning rate from step to step."""

    steps: Count
    milestones: list[Whole]
    gamma: LayerDecay
    warmup_steps: Whole
    warmup_factor: Share


class Train(ClosedSettings):
    """How training is carried out."""

    batch_size: Count
    accumulation_steps: Count
    precision: Literal["fp32", "bf16", "fp16"]
    clip_norm: Positive | None
    ema_decay: Decay | None
    compile: bool
    workers: Whole
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    log_steps: Count
    checkpoint_steps: Count
    keep_states: Count
    eval_steps: Count | None


class Tta(ClosedSettings):
    """Test-time augmentation."""

    sizes: Annotated[list[Count], Field(min_length=1)]
    max_size: Count
    flip: bool


class Test(ClosedSettings):
    """How the detector is evaluated."""

    batch_size: Count
    engine: Literal["faster-coco-eval", "pycocotools"]
    precise_bn: Whole
    tta: Tta | None
    pictures: Whole


class DetectionSettings(ClosedSettings):
    """Every key of a config."""

    weights: Text
    weights_source: Text | None
    fresh: Names
    unused: Names
    pixels: Pixels | None
    arch: Text | None
    arch_args: dict[str, Any]
    checkpoint: Text | None
    config_file: Text | None
    seed: Seed
    output_dir: Text
    budget: Literal["full", "quarter", "debug"]
    freeze: Literal["none", "backbone"]
    freeze_stages: Annotated[int, Field(ge=0, le=5)]
    backbone_norm: Literal["BN", "SyncBN", "FrozenBN"]
    allow_findings: Names
    features: Features
    model: Model
    data: Data
    input: Input
    optimizer: Optimizer
    layer_decay: LayerDecay
    layer_decay_rule: Text
    no_weight_decay: Literal["nothing", "norms", "norms_and_pos_embed", "vectors"]
    schedule: Schedule
    train: Train
    test: Test
