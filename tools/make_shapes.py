"""Write the embedded dataset: COCO and ADE20K layouts, and unlabelled images.

python tools/make_shapes.py --out DIR --for demo
python tools/make_shapes.py --out DIR --level hard --classes 6 --zoom 2 --unlabelled 10000
python tools/make_shapes.py --picture FILE
"""

import argparse
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

from pretrain.run.stop import exit_status
from transfer.datasets.shapes.files import PURPOSES, ShapesSettings, draw_picture, make_shapes
from transfer.datasets.shapes.levels import CLASS_COUNTS, LEVELS


def parse() -> tuple[argparse.Namespace, ShapesSettings]:
    """Parse the command line: an argument that is not given is that of --for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ShapesSettings()
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw samples with masks")
    parser.add_argument("--for", dest="purpose", choices=PURPOSES, help=purposes())
    for name in ("unlabelled", "train", "val"):
        parser.add_argument(f"--{name}", type=int, help=f"images ({getattr(default, name)})")
    parser.add_argument("--image-size", type=int, help=f"pixels per side ({default.image_size})")
    parser.add_argument("--zoom", type=float, help="enlarge the scenes, sides times this (1)")
    parser.add_argument(
        "--level", choices=LEVELS, help=f"how hard the scenes are ({default.level})"
    )
    parser.add_argument(
        "--classes", type=int, choices=CLASS_COUNTS, help="of objects (the level's: 3 or 9)"
    )
    parser.add_argument("--seed", type=int, help=f"({default.seed})")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    if not options.out and not options.picture:
        parser.error("give --out DIR, --picture FILE, or both")
    given = {f.name: getattr(options, f.name, None) for f in fields(ShapesSettings)}
    chosen = PURPOSES.get(options.purpose, default)
    settings = replace(chosen, **{n: v for n, v in given.items() if v is not None})
    if min(settings.unlabelled, settings.train, settings.val) < 1 or settings.side < 64:
        parser.error("at least one image of each kind, 64 pixels or more a side")
    return options, settings


def purposes() -> str:
    """Return what --for stands for."""
    return "; ".join(
        f"{name}: --unlabelled {s.unlabelled} --train {s.train} --val {s.val} --zoom {s.zoom:g} "
        f"--level {s.level}"
        for name, s in PURPOSES.items()
    )


def run() -> None:
    """Write the data set, and a picture of it if asked."""
    options, settings = parse()
    if options.out:
        made = make_shapes(options.out, settings, workers=options.workers, progress=True)
        print(f"{options.out}: {'written' if made else 'already there'}")
    if options.picture:
        draw_picture(options.picture, settings)


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
