"""The command line of tools/pretrain.py: a recipe, overrides of its settings, and the run."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from tyro.conf import AvoidSubcommands, OmitArgPrefixes, Positional

from pretrain.config import Recipe, load_recipe
from pretrain.config.explain import explain
from pretrain.run.folder import refuse_folder
from pretrain.run.processes import log_to_stdout

USAGE = """Pretrain an encoder on a folder, list or shards of images.

python tools/pretrain.py configs/pretrain/NAME.py --data DIR --out DIR [--setting value ...]
    --resume      continue the run in --out; a finished one is left alone, none is begun
    --init FILE   start from the weights of an encoder file or a training state, and nothing else
    --explain     print every setting with its value and where it comes from
Several devices: torchrun --nproc-per-node N tools/pretrain.py ..."""


JSON_DICT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=lambda texts: json_dict(texts[0]),
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [json.dumps(value)],
)


@dataclass(frozen=True)
class Command:
    config: Positional[Path]  # a file of configs/pretrain
    recipe: Recipe
    data: Path | None = None  # folder of images at any depth, text list of paths, or tar shards
    out: Path | None = None  # where everything of the run goes
    resume: bool = False  # continue the run in --out
    init: Path | None = None  # weights to start from
    check_images: bool = False  # look at every image first, and refuse broken ones
    skip_unreadable: bool = False  # decode every image first, leave out and count the broken ones
    explain: bool = False  # print the settings and stop


def json_dict(text: str) -> dict[str, Any]:
    """The dictionary of a JSON text; ValueError otherwise."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text} is no JSON object")
    return value


def parse(arguments: list[str]) -> tuple[Recipe, Command]:
    """The recipe as its file has it, and the command line with the overrides applied."""
    if not arguments or arguments[0].startswith("-"):
        print(USAGE)
        raise SystemExit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    recipe = load_recipe(arguments[0])
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


def run(arguments: list[str]) -> int:
    """0 when done or nothing is to do; 143 when stopped by a signal with the state saved."""
    recipe, command = parse(arguments)
    if command.explain:
        Console().print(explain(command.config, recipe, command.recipe))
        return 0
    for name in ("data", "out"):
        if getattr(command, name) is None:
            raise ValueError(f"--{name} is missing: give the folder")
    assert command.data is not None
    assert command.out is not None
    if refuse_folder(command.out, command.recipe.to_json(), command.resume):
        print(f"finished already: {command.out}")
        return 0
    log_to_stdout()
    from pretrain.train import train  # after everything that needs no torch

    return train(
        command.recipe,
        data=command.data,
        out=command.out,
        resume=command.resume,
        init=command.init,
        skip_unreadable=command.skip_unreadable,
        check_images=command.check_images,
    )


def main() -> int:
    try:
        return run(sys.argv[1:])
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ArithmeticError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
