"""What Detectron2 0.6 expects of its surroundings and no longer finds: import this before it.

- `PIL.Image.LINEAR`, gone since Pillow 10 (fixed on Detectron2's main).
- `detectron2._C`, the compiled operators: imported unconditionally, used only by deformable
  convolution, rotated boxes and its fast COCO evaluation. Absent from a pure-Python install.
- `detectron2.model_zoo` needs `pkg_resources`, which left setuptools in version 81: never import
  it here; build models from their classes.

Each applies only where it is needed, and nothing happens where Detectron2 is not installed.
"""

import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any

from PIL import Image


class _NoOperators(ModuleType):
    """Stands in for `detectron2._C`; says so when an operator is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"detectron2's compiled operator {name!r} is not part of a pure-Python install; "
            "install upstream with `python tools/install_detectron2.py --upstream main`"
        )


def apply() -> None:
    """Put the shims in place; safe to call again."""
    for message in (".*torch.jit.script.* is deprecated", "torch.meshgrid: in an upcoming release"):
        warnings.filterwarnings("ignore", message=message)  # Detectron2's own calls of torch
    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.Resampling.BILINEAR  # type: ignore[attr-defined]
    if importlib.util.find_spec("detectron2") is None or "detectron2._C" in sys.modules:
        return
    if importlib.util.find_spec("detectron2._C") is None:
        sys.modules["detectron2._C"] = _NoOperators("detectron2._C")


apply()
