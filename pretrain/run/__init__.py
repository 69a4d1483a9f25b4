"""What every run is made of, whatever it trains.

folder.py        the files of a run; occupied, the same run, finished?
lock.py          one process at a time writes in a folder
options.py       settings as key=value, and "did you mean"
schema.py        declared types and ranges of settings, one sentence for what does not fit
processes.py     alone, torchrun or srun: devices, ranks
seeds.py         (seed, step, part, rank) -> every random generator
precision.py     fp32, bf16, fp16 with a scaled loss
loop.py          the training loop: accumulate, clip, update, average, log, save, stop
trainee.py       what a trainer gives to the loop
update.py        the gradients' norm, the optimizer's fused form
log.py           log.jsonl, log.txt, TensorBoard, progress
timing.py        how long a step takes, for estimates
clock.py         seconds of training, and those spent waiting for data
from_first.py    what the first process alone reads or does, for all of them
trial.py         the end of a run, tried before its first step without a trace
stop.py          signals, numbers that are not finite, exit statuses
batch_norm.py    BatchNorm over all processes
provenance.py    command, commit, versions, device, peak memory
sheet.py         contact sheets of pictures
"""
