"""Draw what a pretrained method reconstructs: input, masked, prediction pasted in, raw.

    python tools/show_reconstructions.py RUN --data DIR [--images 8] [--image FILE ...] [--to PNG]

RUN is the output folder of tools/pretrain.py, finished or not. Patches are un-normalised with the
true patches' mean and deviation, as the papers' figures are; for BEiT the decoded tokens are shown.
"""

import argparse
import os
import sys
from pathlib import Path

from pretrain.run.stop import exit_status


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="output folder of tools/pretrain.py")
    parser.add_argument("--data", type=Path, help="folder, list or shards; images spread over it")
    parser.add_argument("--image", type=Path, nargs="*", default=[], help="these files instead")
    parser.add_argument("--images", type=int, default=8, help="how many of --data")
    parser.add_argument("--seed", type=int, help="of the masks; default: the run's")
    parser.add_argument("--to", type=Path, help="default: RUN/reconstructions_SEED.png")
    return parser.parse_args()


def draw(options: argparse.Namespace) -> Path:
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


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(lambda: print(draw(parse())))


if __name__ == "__main__":
    sys.exit(main())
