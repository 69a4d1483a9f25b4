# The embedded benchmark (make_shapes.py --for benchmark): images of 256 px, crops of 128.
# Rates and layer decay are what a run has to be given: scratch and fine-tuning need their own.
_base_ = ["shapes_upernet.py"]

scale = (1024, 256)  # longest side, shortest side
max_iters = 400
warmup_iters = 40
layer_decay = 0.75
