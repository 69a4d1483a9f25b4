"""Files on disk: written atomically, read as tensors only.

write.py             atomic writes
read.py              weights files of any kind: tensors and plain containers; no code is executed
arrays.py            pickles of arrays, read without executing them
encoder_file.py      the encoder file: timm-named tensors and their identity
lineage.py           the stages of training that weights went through
training_state.py    what a run needs to resume exactly
find.py              files below a folder
image.py             image files: the one reader of pretraining and of the checks
"""
