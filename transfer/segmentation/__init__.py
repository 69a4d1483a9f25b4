"""UPerNet and its kin in MMSegmentation: the only place that imports mmseg and mmengine.

config.py       a config file and its overrides -> what MMEngine's Runner takes
options.py      --cfg-options key=value
run_folder.py   the output folder: refused when occupied, nothing to do when finished
data.py         folders of images and labels, in an order that follows from the seed alone
labels.py       the one place that knows ADE20K's label offset
backbone.py     transfer.features as a backbone
segmentor.py    EncoderDecoder, told its channels and pixel statistics by the backbone
optim.py        layer-wise learning-rate decay; a stop at NaN
norm.py         BatchNorm over all processes
hooks.py        seeds, checkpoints, SIGTERM
runner.py       MMEngine's Runner with exact resume
checkpoint.py   tensors only, and whole files only
metric.py       mIoU, mAcc, aAcc, IoU by class
train.py        the run from config to record
pictures.py     predictions beside the ground truth
"""
