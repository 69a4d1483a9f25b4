"""Every public checkpoint -> timm names, strictly: nothing lost, nothing run.

reader.py     the one door to a file: tensors only, whatever its format
arrays.py     the door for pickles of numpy arrays
convert.py    recognise the source, rename, find the timm architecture
identity.py   architecture, pixel statistics, colour order
load.py       weights -> TimmFeatures, every tensor accounted for, with a report
"""

from transfer.weights.convert import Weights, read_weights
from transfer.weights.identity import IMAGENET, PixelStats, transfer_arch_args
from transfer.weights.load import LoadReport, features_for, load_encoder
from transfer.weights.reader import WeightsError, safe_read, sha256_of

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
