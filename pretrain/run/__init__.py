"""What every run is made of, whatever it trains.

folder.py        the files of a run; occupied, the same run, finished?
processes.py     alone, torchrun or srun: devices, ranks
seeds.py         (seed, step, part, rank) -> every random generator
log.py           log.jsonl, TensorBoard, progress
stop.py          why a run ends early
batch_norm.py    BatchNorm over all processes
provenance.py    commit, versions, peak memory
sheet.py         contact sheets of pictures
"""
