"""Write the embedded dataset: COCO and ADE20K layouts, and unlabelled images.

python tools/make_shapes.py --out DIR [--unlabelled 3000 --train 300 --val 100]
python tools/make_shapes.py --picture FILE
"""

import argparse
import os
import sys
from pathlib import Path

from pretrain.run.stop import exit_status
from transfer.datasets.shapes.files import ShapesSettings, draw_picture, make_shapes


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ShapesSettings()
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw samples with masks")
    for name in ("unlabelled", "train", "val"):
        number = getattr(default, name)
        parser.add_argument(f"--{name}", type=int, default=number, help=f"images ({number})")
    parser.add_argument(
        "--image-size", type=int, default=default.image_size, help="pixels per side"
    )
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    if not options.out and not options.picture:
        parser.error("give --out DIR, --picture FILE, or both")
    if min(options.unlabelled, options.train, options.val) < 1 or options.image_size < 64:
        parser.error("at least one image of each kind, 64 pixels or more a side")
    return options


def run() -> None:
    """Write the data set, and a picture of it if asked."""
    options = parse()
    settings = ShapesSettings(
        unlabelled=options.unlabelled,
        train=options.train,
        val=options.val,
        image_size=options.image_size,
        seed=options.seed,
    )
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
