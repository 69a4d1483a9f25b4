"""Write the embedded dataset: COCO and ADE20K layouts, and unlabelled images.

    python tools/make_shapes.py --out DIR --for demo
    python tools/make_shapes.py --out DIR --level hard --classes 6 --zoom 2 --unlabelled 10000
    python tools/make_shapes.py --picture FILE

A folder that holds the same settings already is left alone.
"""

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pretrain.run.stop import exit_status
from transfer.datasets.shapes.files import PURPOSES, ShapesSettings, draw_picture, make_shapes


@dataclass(frozen=True)
class Arguments:
    """The command line: what is not given is that of --for."""

    out: Path | None = None
    """A new or empty folder."""
    picture: Path | None = None
    """A picture of samples with their masks."""
    purpose: Annotated[Literal["demo", "benchmark"] | None, tyro.conf.arg(name="for")] = None
    """What is drawn for the demo (2,000 unlabelled images), or for the benchmark (10,000, 200 to
    validate, twice as large)."""
    unlabelled: int | None = None
    """Images to pretrain on (3000)."""
    train: int | None = None
    """Labelled images to train on (300)."""
    val: int | None = None
    """Labelled images to validate on (100)."""
    image_size: int | None = None
    """Pixels along a side before enlargement (128)."""
    zoom: float | None = None
    """Enlarge the scenes: sides times this, masks as exact as before (1)."""
    level: Literal["easy", "hard"] | None = None
    """How hard the scenes are: 3 classes by outline, or 9 by outline and surface (easy)."""
    classes: Literal[3, 6, 9] | None = None
    """Classes of objects; default: the level's."""
    seed: int | None = None
    """Another seed draws other scenes (0)."""
    workers: int = os.cpu_count() or 1
    """Processes."""


def settings_of(arguments: Arguments) -> ShapesSettings:
    """Return what to draw. Raises ValueError for what cannot be drawn."""
    if not arguments.out and not arguments.picture:
        raise ValueError("give --out DIR, --picture FILE, or both")
    chosen = PURPOSES[arguments.purpose] if arguments.purpose else ShapesSettings()
    given = {f.name: getattr(arguments, f.name, None) for f in fields(ShapesSettings)}
    settings = replace(chosen, **{name: v for name, v in given.items() if v is not None})
    if min(settings.unlabelled, settings.train, settings.val) < 1 or settings.side < 64:
        raise ValueError("at least one image of each kind, 64 pixels or more a side")
    return settings


def main(arguments: Arguments) -> None:
    """Write the data set, and a picture of it if asked."""
    settings = settings_of(arguments)
    if arguments.out:
        made = make_shapes(arguments.out, settings, workers=arguments.workers, progress=True)
        print(f"{arguments.out}: {'written' if made else 'already there'}")
    if arguments.picture:
        draw_picture(arguments.picture, settings)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
