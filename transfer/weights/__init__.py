"""Every public checkpoint -> timm names, strictly, and without executing the file.

Follow a file through the package:

    releases.py      the official releases by name: found or fetched, held to their hashes
    download.py      a file from one of several addresses, whole or not at all
    unwrap.py        the containers around a state dict
    sources/         one file per family of layouts -> timm names
    architecture.py  tensors -> the timm architecture
    convert.py       all of that: read_weights
    lineage.py       how the weights were trained, and who says so
    identity.py      architecture, pixel statistics, colour order
    controls.py      shuffled weights and random encoders, to compare trained ones with
    load.py          into TimmFeatures, every tensor accounted for, with a report
    classifiers.py   whole released classifiers: encoder and last layer
    segmentors.py    whole released segmentors: encoder, pyramid, heads
    detectors.py     whole released detectors: encoder, pyramid, RPN, heads
    detector_names.py  their tensors' names
    export.py        timm names -> Detectron2's and MMSegmentation's
    prove.py         both sides built, the features compared (reference.py: a second way)
"""

from pretrain.files.read import WeightsError, safe_read, sha256_of
from transfer.weights.convert import Weights, read_weights
from transfer.weights.identity import IMAGENET, PixelStats, transfer_arch_args
from transfer.weights.load import LoadReport, features_for, load_encoder

__all__ = [
    "IMAGENET",
    "LoadReport",
    "PixelStats",
    "Weights",
    "WeightsError",
    "features_for",
    "load_encoder",
    "read_weights",
    "safe_read",
    "sha256_of",
    "transfer_arch_args",
]
