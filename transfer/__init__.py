"""Encoder file -> result record -> table: does masked pretraining transfer?

weights/         every source format -> timm names; strict loading, with a report
features/        a timm encoder -> {"res2": ..., "res5": ...} at strides 4, 8, 16, 32
datasets/        the embedded dataset; labelled images; checks of data before a run
detection/       Mask R-CNN in Detectron2 (the only place that imports detectron2)
segmentation/    UPerNet in MMSegmentation (the only place that imports mmseg and mmengine)
classification/  fine-tuning on labels, and probes of frozen features
analysis/        encoder files -> what training did to the features, in figures and numbers
results/         records -> tables beside published figures, and the report
rehearsal/       any config the whole way on made-up data, before a long run
suites/          a list of cells -> the runs it still lacks
tasks.py         the tasks: tool, configs, metrics
"""
