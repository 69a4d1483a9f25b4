"""Pretrain an encoder: python tools/pretrain.py configs/pretrain/NAME.py --data DIR --out DIR."""

import importlib
import sys
from pathlib import Path

# Python looks for a script's imports in the script's folder first, where this file hides the
# package of its name, from every other tool as well: put the root there, hand over the package.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parent) if Path(p).resolve() == HERE else p for p in sys.path]
if __name__ == "pretrain":
    del sys.modules["pretrain"]
    importlib.import_module("pretrain")

if __name__ == "__main__":
    from pretrain.command import main

    sys.exit(main())
