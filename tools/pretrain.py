"""Pretrain an encoder: python tools/pretrain.py configs/pretrain/NAME.py --data DIR --out DIR."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretrain.config import Recipe
    from pretrain.probe import Measure

# Python looks for a script's imports in the script's folder first, where this file hides the
# package of its name, from every other tool as well: put the root there, hand over the package.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parent) if Path(p).resolve() == HERE else p for p in sys.path]
if __name__ == "pretrain":
    del sys.modules["pretrain"]
    importlib.import_module("pretrain")

if __name__ == "__main__":
    from pretrain.command import main

    def prober(data: Path, recipe: "Recipe") -> "Measure":
        """Return the k-NN that --probe-every measures."""
        from transfer.classification.knn_probe import knn_probe  # after what needs no torch

        return knn_probe(data, recipe.image_size, recipe.run.device, recipe.run.workers)

    sys.exit(main(prober))
