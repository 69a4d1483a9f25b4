"""Golden cases: recompute what official code recorded, and how far off each quantity is.

A case is a folder with case.json, case.safetensors and (mostly) weights.safetensors; its kind is
recognised by the tensors, so that any architecture, width and size can be checked.
"""

from .cases import Case, Check, kind_of, read_case
from .check import check_case

__all__ = ["Case", "Check", "check_case", "kind_of", "read_case"]
