"""The command line of tools/pretrain.py: a recipe, overrides of its settings, and the run."""

import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from tyro.conf import AvoidSubcommands, OmitArgPrefixes, Positional

from pretrain.config import Recipe, load_recipe
from pretrain.config.explain import explain
from pretrain.config.read import RENAMED
from pretrain.config.recipe import FREE, flat_settings
from pretrain.run.folder import ENCODER, RunFolder
from pretrain.run.processes import log_to_stdout
from pretrain.run.stop import exit_status

if TYPE_CHECKING:
    from pretrain.probe import Probe

USAGE = """Pretrain an encoder on a folder, list or shards of images.

python tools/pretrain.py configs/pretrain/NAME.py --data DIR --out DIR [--setting value ...]
    --resume      continue the run in --out; a finished one is left alone, none is begun
    --init FILE   start from the weights of an encoder file or a training state, and nothing else
    --probe-every N --probe-data DIR
                  every N epochs the accuracy of a k-NN on the labelled images at DIR, in the log
    --explain     print every setting with its value, what is allowed and where it comes from
Several devices: torchrun --nproc-per-node N tools/pretrain.py ..."""

PATHS = ("data", "out", "init", "probe_data")  # options

# labelled images, recipe -> what a probe measures: an encoder file -> figures by name
Prober = Callable[[Path, Recipe], Callable[[Path], Mapping[str, float]]]

JSON_DICT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=lambda texts: json_dict(texts[0]),
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [json.dumps(value)],
)


@dataclass(frozen=True)
class Command:
    """The command line of tools/pretrain.py."""

    config: Positional[Path]  # a file of configs/pretrain
    recipe: Recipe
    data: Path | None = None  # folder of images at any depth, text list of paths, or tar shards
    out: Path | None = None  # where everything of the run goes
    resume: bool = False  # continue the run in --out
    init: Path | None = None  # weights to start from
    check_images: bool = False  # look at every image first, and refuse broken ones
    skip_unreadable: bool = False  # decode every image first, leave out and count the broken ones
    probe_every: int | None = None  # epochs between probes of the encoder
    probe_data: Path | None = None  # labelled images to probe it on, as tools/probe.py takes them
    explain: bool = False  # print the settings and stop


def json_dict(text: str) -> dict[str, Any]:
    """Return the dictionary in a JSON text. Raises ValueError for any other text."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text} is not a JSON object")
    return value


def parse(arguments: list[str]) -> tuple[Recipe, Command]:
    """Return the recipe as its file has it, and the command line with the overrides applied.

    Raises SystemExit for --help, or if the command line does not begin with a config.
    """
    if not arguments or arguments[0].startswith("-"):
        print(USAGE)
        raise SystemExit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    recipe = load_recipe(arguments[0])
    refuse_options(arguments, flat_settings(recipe))
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        return JSON_DICT if info.type == dict[str, Any] else None

    with registry:
        command = tyro.cli(
            Command,
            args=arguments,
            default=Command(Path(arguments[0]), recipe),
            config=(OmitArgPrefixes, AvoidSubcommands),
        )
    return recipe, command


def refuse_options(arguments: list[str], settings: Collection[str]) -> None:
    """Raise ValueError for an option by its former name, and for an empty path."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--"):
            continue
        if name in RENAMED and name not in settings:
            raise ValueError(f"{option} is now --{RENAMED[name].replace('_', '-')}")
        if name in PATHS and (value if equals else following) == "":
            raise ValueError(f"{option} is empty: give a path (is a variable unset?)")


def run(arguments: list[str], prober: Prober | None = None) -> int:
    """Return 0 when done or nothing is to do. Raises what `train` raises.

    `prober` makes what --probe-every measures, from --probe-data and the recipe.
    """
    recipe, command = parse(arguments)
    if command.explain:
        Console().print(explain(command.config, recipe, command.recipe))
        return 0
    data, out = required(command.data, "--data"), required(command.out, "--out")
    run_folder = RunFolder(out, ENCODER, FREE)
    if run_folder.open(command.recipe.to_json(), command.resume) == "finished":
        print(f"finished already: {out}")
        return 0
    log_to_stdout()
    probe = probe_of(command, prober)
    from pretrain.train import train  # after everything that needs no torch

    train(
        command.recipe,
        data=data,
        out=out,
        resume=command.resume,
        init=command.init,
        skip_unreadable=command.skip_unreadable,
        check_images=command.check_images,
        probe=probe,
    )
    return 0


def probe_of(command: Command, prober: Prober | None) -> "Probe | None":
    """Return the probe that a command line asks for; None for none.

    Raises ValueError for half of its options, and what `prober` raises for its data.
    """
    if command.probe_every is None and command.probe_data is None:
        return None
    if command.probe_every is None or command.probe_data is None or command.probe_every < 1:
        raise ValueError("a probe needs --probe-every N, at least 1, and --probe-data DIR")
    if prober is None:
        raise ValueError("--probe-every: only tools/pretrain.py can probe")
    from pretrain.probe import Probe  # it needs torch

    return Probe(command.probe_every, prober(command.probe_data, command.recipe))


def required(path: Path | None, option: str) -> Path:
    """Return the path of an option. Raises ValueError if it was not given."""
    if path is None:
        raise ValueError(f"{option} is missing: give the folder")
    return path


def main(prober: Prober | None = None) -> int:
    """Run the command line; return the exit status."""
    return exit_status(lambda: run(sys.argv[1:], prober))
