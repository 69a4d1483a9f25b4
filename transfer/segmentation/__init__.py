"""UPerNet and its kin in MMSegmentation: the only place that imports mmseg and mmengine.

protocol.py      what a number depends on: the protocols of training and evaluation
config.py        a config file and its --cfg-options -> what MMEngine's Runner takes
data.py          folders of images and labels, checked, in an order that follows from the seed
labels.py        the one place that knows ADE20K's label offset
backbone.py      transfer.features as a backbone
segmentor.py     EncoderDecoder, told its channels and pixel statistics by the backbone
optimizer.py     layer-wise learning-rate decay; a stop at NaN
hooks.py         seeds, checkpoints, SIGTERM; log.py: log files and TensorBoard
runner.py        MMEngine's Runner with exact resume
launch.py        torchrun or srun -> processes
run_folder.py    the output folder: refused when occupied, nothing to do when finished
safe_files.py    MMEngine reads tensors only, and writes whole files only
iou.py           mIoU, mAcc, aAcc, IoU per class
run.py           the run from config to record
estimate.py      --dry-run: parameters, FLOPs, hours
pictures.py      predictions beside the ground truth
native.py        MMSegmentation's own net reads our exported weights
"""
