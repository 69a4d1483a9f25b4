"""Look into encoders: figures, and the numbers behind them in JSON beside each.

    python tools/analyze.py collapse ENCODER... --data DIR --out DIR
    python tools/analyze.py attention ENCODER... --data DIR --out DIR [--points 0.3,0.5 ...]
    python tools/analyze.py reconstructions RUN... --data DIR --out DIR
    python tools/analyze.py shift BEFORE AFTER... --data DIR --out DIR
    python tools/analyze.py codes TOKENIZER... --data DIR --labels DIR --out DIR

    collapse         ConvNeXt V2's feature collapse by layer, dead and saturated channels,
                     effective rank, several encoders in one plot; a sheet of activations of each
    attention        where a ViT looks from chosen points, and how far by layer
    reconstructions  what the method of a pretraining run reconstructs, and its loss on the images
    shift            how far each layer moved: linear CKA and relative distance of the weights
    codes            what a tokenizer's codes tell of the label maps of --labels, in nats, against
                     the mean colour of a patch; TOKENIZER is [LABEL=]FILE

ENCODER is [LABEL=]WHAT: a weights file, control:shuffled:FILE, random:FILE (random weights in the
architecture of FILE), or the folder of a detection or segmentation run. The images are spread
over DIR; their central squares are resized to --size.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pretrain.run.stop import exit_status

IMAGES = {"collapse": 64, "attention": 4, "reconstructions": 64, "shift": 64, "codes": 300}
TOKENIZER_SIZE = 128


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    kind: Annotated[
        Literal["collapse", "attention", "reconstructions", "shift", "codes"], tyro.conf.Positional
    ]
    """What to look into."""
    encoders: Annotated[tuple[str, ...], tyro.conf.Positional]
    """[LABEL=]WHAT each; for shift, the first is compared with the others."""
    data: Path
    """Folder, list or shards of images."""
    out: Path
    """Folder of the pictures and numbers."""
    images: int | None = None
    """How many of --data; default: 64, for attention 4, for codes 300."""
    size: int | None = None
    """Pixels along a side; default: that of the first encoder, for codes 128."""
    labels: Path | None = None
    """For codes: folder of label maps named as the images."""
    points: tuple[str, ...] = ()
    """For attention: Y,X as shares of the sides, e.g. 0.3,0.5."""


def places(points: Sequence[str]) -> list[tuple[float, float]]:
    """Return (y, x) of each "Y,X". Raises ValueError for what is no point of an image."""
    found = []
    for text in points:
        y, _, x = text.partition(",")
        try:
            place = float(y), float(x)
        except ValueError:
            place = -1.0, -1.0
        if not all(0 <= share <= 1 for share in place):
            raise ValueError(f"point {text!r}: expected Y,X as shares of the sides, e.g. 0.3,0.5")
        found.append(place)
    return found


def numbers(arguments: Arguments) -> dict[str, Any]:
    """Write the pictures; return the numbers by label."""
    from transfer.analysis.attention import POINTS, attention
    from transfer.analysis.codes import codes
    from transfer.analysis.collapse import collapse
    from transfer.analysis.encoders import open_encoders
    from transfer.analysis.images import read_squares
    from transfer.analysis.reconstructions import reconstructions
    from transfer.analysis.shift import shift

    if not arguments.encoders:
        raise ValueError("name at least one encoder: [LABEL=]FILE")
    points = places(arguments.points) or POINTS
    count, out = arguments.images or IMAGES[arguments.kind], arguments.out
    if arguments.kind == "reconstructions":
        return reconstructions(arguments.encoders, arguments.data, count, out)
    if arguments.kind == "codes":
        if arguments.labels is None:
            raise ValueError("codes are held against label maps: give --labels DIR")
        size = arguments.size or TOKENIZER_SIZE
        return codes(arguments.encoders, arguments.data, arguments.labels, count, size, out)
    encoders = open_encoders(arguments.encoders)
    images = read_squares(arguments.data, count, arguments.size or encoders[0].input_size)
    if arguments.kind == "attention":
        return attention(encoders, images, out, points)
    return (collapse if arguments.kind == "collapse" else shift)(encoders, images, out)


def main(arguments: Arguments) -> None:
    """Write OUT/KIND.json and the pictures beside it."""
    from pretrain.files.write import atomic_write, refuse_file

    refuse_file(arguments.out)
    about = {
        "encoders": list(arguments.encoders),
        "data": str(arguments.data),
        "size": arguments.size,
    }
    text = json.dumps({**about, "numbers": numbers(arguments)}, indent=1)
    path = arguments.out / f"{arguments.kind}.json"
    atomic_write(path, lambda temporary: temporary.write_text(text + "\n"))
    print(path)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
