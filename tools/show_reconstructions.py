"""Draw what a pretrained method reconstructs: input, masked, prediction pasted in, raw.

    python tools/show_reconstructions.py RUN --data DIR [--images 8] [--image FILE ...] [--to PNG]

RUN is the output folder of tools/pretrain.py, finished or not. Patches are un-normalised with the
true patches' mean and deviation, as the papers' figures are; for BEiT the decoded tokens are shown.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    run: Annotated[Path, tyro.conf.Positional]
    """Output folder of tools/pretrain.py."""
    data: Path | None = None
    """Folder, list or shards; the images are spread over it."""
    image: tuple[Path, ...] = ()
    """These files instead."""
    images: int = 8
    """How many of --data."""
    seed: int | None = None
    """Seed of the masks; default: the run's."""
    to: Path | None = None
    """The picture; default: RUN/reconstructions_SEED.png."""


def draw(options: Arguments) -> Path:
    """Write the picture; return its path."""
    from pretrain.data.names import Names
    from pretrain.data.sources import Files, open_images
    from pretrain.files.write import atomic_write
    from pretrain.pictures import method_of_run, picture_batch, reconstructions
    from pretrain.run.sheet import spread

    method, recipe = method_of_run(options.run, options.seed)
    if not options.data and not options.image:
        raise ValueError("give --data DIR, or --image FILE ...")
    names = Names.of([os.fsencode(path) for path in options.image])
    images = Files(Path(), names) if options.image else open_images(options.data)
    numbers = spread(len(images), len(images) if options.image else options.images)
    sheet = reconstructions(method, picture_batch(images, numbers, recipe, method), recipe)
    target = options.to or options.run / f"reconstructions_{recipe.seed}.png"
    atomic_write(target, lambda path: sheet.save(path, "png"))
    return target


def main(arguments: Arguments) -> None:
    """Write the picture and say where."""
    print(draw(arguments))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
