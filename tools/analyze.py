"""Look into encoders: figures, and the numbers behind them in JSON beside each.

    python tools/analyze.py collapse ENCODER... --data DIR --out DIR
    python tools/analyze.py attention ENCODER... --data DIR --out DIR [--points 0.3,0.5 ...]
    python tools/analyze.py reconstructions RUN... --data DIR --out DIR
    python tools/analyze.py shift BEFORE AFTER... --data DIR --out DIR

collapse         ConvNeXt V2's feature collapse by layer, dead and saturated channels, effective
                 rank, several encoders in one plot; a sheet of activations of each
attention        where a ViT looks from chosen points (y,x as shares of the sides), how far by layer
reconstructions  what the method of a pretraining run reconstructs, and its loss on the images
shift            how far each layer moved: linear CKA and relative distance of the weights

ENCODER is [LABEL=]WHAT: a weights file, control:shuffled:FILE, random:FILE (random weights in the
architecture of FILE), or the folder of a detection or segmentation run. The images are spread
over DIR; their central squares are resized to --size.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pretrain.run.stop import exit_status

KINDS = ("collapse", "attention", "reconstructions", "shift")
IMAGES = {"collapse": 64, "attention": 4, "reconstructions": 64, "shift": 64}


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("encoders", nargs="+", metavar="ENCODER")
    parser.add_argument("--data", type=Path, required=True, help="folder, list or shards of images")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, help=f"how many of --data; default: {IMAGES}")
    parser.add_argument("--size", type=int, help="pixels a side; default: of the first encoder")
    parser.add_argument("--points", nargs="+", type=point, metavar="Y,X", help="for attention")
    return parser.parse_args()


def point(text: str) -> tuple[float, float]:
    """Return (y, x) of "Y,X", shares of the sides."""
    y, x = map(float, text.split(","))
    if not (0 <= y <= 1 and 0 <= x <= 1):
        raise argparse.ArgumentTypeError(f"{text}: a point is Y,X as shares of the sides, 0 to 1")
    return y, x


def numbers(options: argparse.Namespace) -> dict[str, Any]:
    """Write the pictures; return the numbers by label."""
    from transfer.analysis.attention import POINTS, attention
    from transfer.analysis.collapse import collapse
    from transfer.analysis.encoders import open_encoders
    from transfer.analysis.images import read_squares
    from transfer.analysis.reconstructions import reconstructions
    from transfer.analysis.shift import shift

    count = options.images or IMAGES[options.kind]
    if options.kind == "reconstructions":
        return reconstructions(options.encoders, options.data, count, options.out)
    encoders = open_encoders(options.encoders)
    images = read_squares(options.data, count, options.size or encoders[0].input_size)
    if options.kind == "attention":
        return attention(encoders, images, options.out, options.points or POINTS)
    return (collapse if options.kind == "collapse" else shift)(encoders, images, options.out)


def run(options: argparse.Namespace) -> None:
    """Write OUT/KIND.json and the pictures beside it."""
    from pretrain.files.write import atomic_write

    options.out.mkdir(parents=True, exist_ok=True)
    about = {"encoders": options.encoders, "data": str(options.data), "size": options.size}
    text = json.dumps({**about, "numbers": numbers(options)}, indent=1)
    path = options.out / f"{options.kind}.json"
    atomic_write(path, lambda temporary: temporary.write_text(text + "\n"))
    print(path)


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(lambda: run(parse()))


if __name__ == "__main__":
    sys.exit(main())
