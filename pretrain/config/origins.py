"""Where each setting of a recipe comes from: the comment beside it, read from the source.

A comment belongs to a setting if it ends the setting's line or stands on the lines just above.
"""

import ast
import inspect
import io
import textwrap
import tokenize
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from pretrain.config.read import find_config
from pretrain.config.recipe import Recipe, flat_settings


@dataclass(frozen=True)
class Origin:
    """Who set a value ("command line", a recipe's file name, "default") and what it says why."""

    setter: str
    source: str = ""


def origins(path: Path | str, from_file: Recipe, overridden: Recipe) -> dict[str, Origin]:
    """Return the origin of every setting, by its flat name.

    `from_file` is the recipe as the file `path` has it, `overridden` that with the command line's.
    """
    found = default_origins(overridden) | file_origins(path)
    before, after = flat_settings(from_file), flat_settings(overridden)
    for name, value in after.items():
        if before.get(name) != value:
            found[name] = Origin("command line", "override")
    about = (type(overridden.method).__doc__ or "").partition(";")[0]
    found["method"] = Origin(find_config(path).name, about)
    return {name: found.get(name, Origin("default")) for name in after}


def default_origins(settings: Any) -> dict[str, Origin]:
    """Return the comments beside the defaults of the classes that make up `settings`."""
    source = textwrap.dedent(inspect.getsource(type(settings)))
    comments = _comments(source)
    found = {
        node.target.id: Origin("default", _comment(node, comments))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value):
            found |= default_origins(value)
    return found


def file_origins(path: Path | str) -> dict[str, Origin]:
    """Return the settings that a recipe's file names, those of the recipe it varies included."""
    file = find_config(path)
    source = file.read_text()
    comments = _comments(source)
    tree = ast.parse(source)
    found: dict[str, Origin] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "load_recipe":
            found |= file_origins(ast.literal_eval(node.args[0]))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg and not isinstance(node.value, ast.Call):
            found[node.arg] = Origin(file.name, _comment(node, comments))
    return found


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _comments(source: str) -> dict[int, tuple[str, bool]]:
    """Map each line number to its comment and whether the line holds nothing else."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0]] = (token.string.lstrip("# ").strip(), alone)
    return found


def _comment(node: ast.AnnAssign | ast.keyword, comments: dict[int, tuple[str, bool]]) -> str:
    parts: list[str] = []
    line = node.lineno - 1
    while line in comments and comments[line][1]:
        parts.insert(0, comments[line][0])
        line -= 1
    last = node.end_lineno or node.lineno
    for number in sorted({node.lineno, last}):
        if number in comments and not comments[number][1]:
            parts.append(comments[number][0])
    return " ".join(parts)
