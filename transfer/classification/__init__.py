"""Fine-tuning on labelled images, and probes of frozen features.

config.py        a config file and its overrides -> FineTuning, every setting
classifier.py    timm's network with a fresh classifier and its weights
data.py          labelled images -> resumable batches, by timm's transforms
optimizer.py     parameter groups with layer decay
trainer.py       what the training loop trains
evaluate.py      top-1 and top-5 accuracy
predictions.py   what was said of every image, and what was taken for what
pictures.py      confusions and the surest mistakes as a PNG
protocol.py      what a number depends on: the protocols of training and evaluation
record.py        what the record says, and the lineage of the encoder file
trained.py       the trained classifier on disk
released.py      a classifier as its authors released it: their test, a record
prepare.py       everything a run needs, checked and built
run.py           check, build, train, evaluate, record, encoder file
trial.py         the end of a run on two validation images, before its first step
estimate.py      --dry-run: parameters, hours
probe_config.py  every setting of a probe
frozen.py        the features of a frozen encoder, computed once
probe.py         linear probe and k-NN of them
knn_probe.py     a k-NN of an encoder file alone, while it is pretrained (--probe-every)
"""
