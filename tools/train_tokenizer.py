"""Train a tokenizer for BEiT, a discrete VAE in DALL-E's form.

    python tools/train_tokenizer.py --data DIR --out FILE.safetensors [--size full] [--OPTION X]

The same command again goes on with a stopped run, and does nothing after a finished one. State,
log and a picture of reconstructions lie in the folder FILE/ beside the file. Several devices:
torchrun --nproc-per-node N tools/train_tokenizer.py ...
"""

import itertools
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pretrain.command import refuse_options
from pretrain.config import Augmentation, RunSettings, TokenizerSettings
from pretrain.config.tokenizer import SIZES
from pretrain.run.folder import is_whole
from pretrain.run.lock import locked
from pretrain.run.processes import is_first_process, log_to_stdout
from pretrain.run.stop import exit_status


@dataclass(frozen=True)
class Command:
    """The command line."""

    data: Path  # folder of images at any depth, text list of paths, or tar shards
    out: Path  # the tokenizer file to write
    settings: TokenizerSettings
    size: Literal["small", "full"] = "small"  # what the settings start from
    image_size: int = 64  # pixels of a crop's side; for BEiT 8 x its grid (112: 14 x 14 tokens)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"  # as tools/pretrain.py has it
    device_batch_size: int = 64  # most images per device at once; the rest is accumulated
    workers: int | Literal["auto"] = "auto"  # data processes per device
    log_steps: int = 20  # optimizer steps between lines of log.jsonl
    checkpoint_steps: int = 500  # optimizer steps between training states
    check_images: bool = False  # look at every image first, and refuse broken ones
    skip_unreadable: bool = False  # decode every image first, leave out the broken ones


def parse(arguments: list[str]) -> Command:
    """Return the command line over the defaults of the size that it names.

    Raises ValueError for settings that do not fit together.
    """
    full = "--size=full" in arguments or ("--size", "full") in itertools.pairwise(arguments)
    size: Literal["small", "full"] = "full" if full else "small"
    refuse_options(arguments, ("precision",))
    default = Command(tyro.MISSING, tyro.MISSING, SIZES[size], size)
    command = tyro.cli(
        Command,
        args=arguments,
        default=default,
        description=__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    if command.out.suffix != ".safetensors":
        raise ValueError(f"--out {command.out}: give a file name that ends in .safetensors")
    if command.image_size % command.settings.sizes.downsampling:
        raise ValueError(
            f"--image-size {command.image_size} must be a multiple of "
            f"{command.settings.sizes.downsampling}, the pixels of a token"
        )
    return command


def run(command: Command) -> None:
    """Check the images, train, write the file."""
    if is_whole(command.out):
        print(f"finished already: {command.out}")
        return
    log_to_stdout()
    from pretrain.data.checked import checked_images
    from pretrain.run.processes import launch
    from pretrain.tokenizer.training import train_tokenizer

    folder = command.out.with_suffix("")
    with locked(folder) if is_first_process() else nullcontext():
        fabric = launch(command.device, command.precision)
        images = checked_images(
            fabric, command.data, folder, False, command.skip_unreadable, command.check_images
        )
        train_tokenizer(
            fabric,
            images,
            command.settings,
            command.out,
            image_size=command.image_size,
            augmentation=Augmentation(),
            seed=command.seed,
            run=RunSettings(
                device_batch_size=command.device_batch_size,
                workers=command.workers,
                log_steps=command.log_steps,
                checkpoint_steps=command.checkpoint_steps,
            ),
        )


def main() -> int:
    """Run the command line; return the exit status."""
    return exit_status(lambda: run(parse(sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
