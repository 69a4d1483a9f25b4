"""What a weights file is: its layout, architecture, input conventions, and each tensor's fate.

    python tools/inspect_weights.py FILE [--source NAME] [--arch TIMM_NAME] [--all]

FILE may be a path, or the name of a release of configs/weights.json.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from pretrain.command import JSON_DICT
from pretrain.run.stop import exit_status
from transfer.weights.convert import NAMES, SOURCES, Weights, read_weights
from transfer.weights.releases import find

SHOWN = 20  # tensors, without --all
SourceName = tyro.extras.literal_type_from_choices(NAMES)


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A weights file, or a name of configs/weights.json."""
    source: SourceName | None = None
    """The layout, instead of recognising it."""
    arch: str | None = None
    """The timm architecture, instead of inferring it."""
    arch_args: Annotated[dict[str, Any], JSON_DICT] = field(default_factory=dict)
    """Further arguments of the timm architecture."""
    all: bool = False
    """List every tensor."""


def description() -> str:
    """Return what --help says: the tool, and what each source is."""
    sources = "\n".join(f"    {source.name:15}{source.describes}" for source in SOURCES)
    return f"{__doc__}\nSources:\n\n    {'encoder':15}this suite's encoder file\n{sources}"


def facts(weights: Weights) -> Table:
    """Return a table of what the file is."""
    identity = weights.identity
    numbers = sum(tensor.numel() for tensor in weights.tensors.values())
    table = Table(show_header=False, box=None)
    for name, value in (
        ("file", weights.file),
        ("SHA-256", weights.sha256),
        ("source", f"{weights.source}: {weights.reason}"),
        ("architecture", f"{identity.arch} {identity.arch_args or ''}"),
        ("method", identity.method),
        ("numbers", f"{numbers / 1e6:.2f} million in {len(weights.tensors)} tensors"),
        ("left out", f"{len(weights.unused)} tensors"),
        ("input", f"{identity.input_size} px, {identity.color_order} in [0, 1]"),
        ("pixel mean", str(identity.pixel_mean)),
        ("pixel std", str(identity.pixel_std)),
        ("other pixels", identity.extra.get("other_pixels", "")),
    ):
        table.add_row(name, value)
    return table


def fates(weights: Weights, every: bool) -> Table:
    """Return a table of how each tensor is used, all of them with `every`."""
    table = Table("in the file", "becomes", "shape")
    rows = [
        (old, new, str(tuple(weights.tensors[new].shape))) for new, old in weights.origin.items()
    ]
    rows += [(old, f"left out: {why}", "") for old, why in weights.unused.items()]
    for row in rows if every else rows[:SHOWN]:
        table.add_row(*row)
    if len(rows) > SHOWN and not every:
        table.caption = f"and {len(rows) - SHOWN} more: --all"
    return table


def reasons(weights: Weights) -> Table:
    """Return a table of the reasons why tensors are left out."""
    table = Table("left out because", "tensors")
    kinds = sorted(set(weights.unused.values()))
    for why in kinds:
        names = [name for name, reason in weights.unused.items() if reason == why]
        table.add_row(why, f"{len(names)}: {', '.join(names[:3])}{' ...' * (len(names) > 3)}")
    return table


def main(options: Arguments) -> None:
    """Print what the file holds and how it would load."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 120)
    path, _ = find(options.file)
    weights = read_weights(
        Path(path), options.source, arch=options.arch, arch_args=options.arch_args
    )
    console.print(facts(weights))
    console.print(fates(weights, options.all))
    if weights.unused:
        console.print(reasons(weights))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=description()))))
