"""Mask R-CNN in Detectron2: the only place that imports it.

config.py        a LazyConfig file and its overrides -> checked config, protocol
schema.py        types and ranges of its keys
data.py          a COCO-format split -> resumable batches
backbone.py      transfer.features as a Detectron2 backbone
mask_rcnn.py     the detector; proposals.py: its RPN; cascade.py: the cascade's box heads
mmdet.py         what MMDetection's detectors compute in another way
box_layers.py    what follows a box head; soft_nms.py: Soft-NMS there
precision.py     what stays in float32 under autocast
build.py         config -> detector with its weights and norms
optimizer.py     parameter groups with layer decay; the schedule
trainer.py       what the training loop trains; checkpoint.py: trained detectors
protocol.py      what a number depends on: the protocols of training and evaluation
record.py        what the record says of training and evaluation
prepare.py       everything a run needs, checked and built; folder.py: its folder
run.py           check, build, try the end, train, evaluate, record
trial.py         the end of a run on two validation images, before its first step
launch.py        the command line -> run, evaluation or estimate, on every process
processes.py     --num-gpus, torchrun, srun; what one process does for its machine
estimate.py      --dry-run: parameters, FLOPs, hours
released.py      detectors as their authors released them, evaluated
native.py        Detectron2's own net reads our exported weights
evaluation/      predictions, COCO metrics, pictures
compat.py        what Detectron2 0.6 needs to import today; must come before detectron2
"""

# Detectron2 0.6 imports names that are gone from its dependencies; compat puts them back first
from transfer.detection import compat as compat
