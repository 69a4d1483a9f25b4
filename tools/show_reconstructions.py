"""Draw what a pretrained method reconstructs: input, masked, prediction pasted in, raw.

    python tools/show_reconstructions.py RUN --data DIR [--images 8] [--image FILE ...] [--to PNG]

RUN is the output folder of tools/pretrain.py, finished or not. Patches are un-normalised with the
true patches' mean and deviation, as the papers' figures are; for BEiT the decoded tokens are shown.
"""

import os
import sys
from dataclasses import dataclass, replace
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
    from pretrain.config import recipe_from_json
    from pretrain.data.names import Names
    from pretrain.data.sources import Files, open_images
    from pretrain.files.training_state import read_state
    from pretrain.files.write import atomic_write
    from pretrain.methods import build_method
    from pretrain.pictures import picture_batch, reconstructions
    from pretrain.run import folder
    from pretrain.run.sheet import spread

    if not (options.run / folder.RUN).is_file():
        raise FileNotFoundError(f"{options.run} is not an output folder of tools/pretrain.py")
    recipe = recipe_from_json(folder.read_json(options.run / folder.RUN))
    if options.seed is not None:
        recipe = replace(recipe, seed=options.seed)
    if not options.data and not options.image:
        raise ValueError("give --data DIR, or --image FILE ...")
    names = Names.of([os.fsencode(path) for path in options.image])
    images = Files(Path(), names) if options.image else open_images(options.data)
    state = read_state(options.run / folder.STATE, "pretraining")
    own = getattr(recipe.method, "tokenizer", "")
    method = build_method(recipe, Path(own) if own else options.run / folder.TOKENIZER)
    method.load_state_dict(state["model"])
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
