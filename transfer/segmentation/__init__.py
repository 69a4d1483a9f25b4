"""UPerNet and its kin in MMSegmentation: the only place that imports mmseg and mmengine.

protocol.py      what a number depends on: the protocols of training and evaluation
record.py        what the record says of training and evaluation
config.py        a config file and its --cfg-options -> what MMEngine's Runner takes
settings.py      our own settings: former names, values that have a meaning
data.py          folders of images and labels, checked, in an order that follows from the seed
labels.py        the one place that knows ADE20K's label offset
backbone.py      transfer.features as a backbone
segmentor.py     EncoderDecoder, told its channels and pixel statistics by the backbone
linear_head.py   a linear classifier of every pixel, on frozen maps
optimizer.py     layer-wise learning-rate decay; precision; a stop at NaN
schedule.py      the learning rate of MMCV 0.x
average.py       the moving average of the weights
hooks.py         seeds, log, states, the best state, signals
runner.py        MMEngine's Runner with exact resume
state.py         state.pt and best.pt
identity.py      run.json: what a resumed run must agree with
launch.py        torchrun or srun -> processes
safe_files.py    MMEngine reads tensors only
iou.py           mIoU, mAcc, aAcc, IoU per class
run.py           the run from config to record
trial.py         the end of a run on two evaluation images, before its first step
estimate.py      --dry-run: parameters, FLOPs, hours
pictures.py      predictions beside the ground truth
native.py        MMSegmentation's own net reads our exported weights
released.py      segmentors as their authors released them
quiet.py         MMSegmentation is imported without what it prints
"""

# first: importing mmseg prints and warns about parts that are not needed
from transfer.segmentation import quiet as quiet
