"""A recipe as a table: every setting, its value, who set it and from which source."""

from pathlib import Path

from rich.table import Table

from pretrain.config.declared import declared
from pretrain.config.origins import origins
from pretrain.config.recipe import Recipe, flat_settings


def explain(path: Path | str, from_file: Recipe, overridden: Recipe) -> Table:
    """Return the table of a recipe: as the file `path` has it, and with the command line's."""
    table = Table(title=f"{path}", title_justify="left")
    table.add_column("setting", no_wrap=True, min_width=max(map(len, flat_settings(overridden))))
    for heading in ("value", "allowed", "set by", "source"):
        table.add_column(heading, overflow="fold")
    values = flat_settings(overridden)
    allowed = declared(Recipe) | declared(type(overridden.method))
    for name, origin in origins(path, from_file, overridden).items():
        if name.startswith("tokenizer_") and values["tokenizer"]:
            continue  # settings of a tokenizer that is not trained
        style = "bold" if origin.setter == "command line" else ""
        cells = (_text(values[name]), allowed.get(name, ""), origin.setter, origin.source or "ours")
        table.add_row(name, *cells, style=style)
    table.add_section()
    table.add_row("peak lr", f"{overridden.peak_lr():.6g}", "", "computed", lr_rule(overridden))
    return table


def lr_rule(recipe: Recipe) -> str:
    """Return the batch-size rule of the learning rate with its numbers."""
    settings = recipe.optimizer
    if not settings.lr_batch_size:
        return f"absolute, whatever the batch ({recipe.batch_size})"
    return f"{settings.base_lr:g} x {recipe.batch_size} / {settings.lr_batch_size}"


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(_text(part) for part in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
