"""A trained detector -> predictions on disk -> COCO metrics and pictures.

evaluate.py     a run's validation images through its detector
evaluator.py    predictions of a model (test-time augmentation included), saved and measured
coco_eval.py    COCO's average precision: faster-coco-eval, or pycocotools to check it with
matching.py     detections of one image against its ground truth
pictures.py     detections beside ground truth
curves.py       precision over recall
saved.py        predictions and settings that a finished run left behind
"""
