"""Where each setting of a recipe comes from: the comment beside it, read from the source.

A comment belongs to a setting if it ends the setting's line or stands on the lines just above.
"""

import ast
import inspect
import io
import tokenize
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from pretrain import config
from pretrain.config import Recipe, find_config, flat


@dataclass(frozen=True)
class Origin:
    """Who set a value ("command line", a recipe's file name, "default") and what it says why."""

    setter: str
    source: str = ""


def origins(path: Path | str, recipe: Recipe, given: Recipe) -> dict[str, Origin]:
    """The origin of every flat setting of `given`, which is `recipe` of `path` with overrides."""
    found = default_origins(given) | file_origins(path)
    before, after = flat(recipe), flat(given)
    for name, value in after.items():
        if before.get(name) != value:
            found[name] = Origin("command line", "override")
    return {name: found.get(name, Origin("default")) for name in after}


def default_origins(recipe: Recipe) -> dict[str, Origin]:
    """The comments in config.py beside the defaults of the classes that make up `recipe`."""
    source = inspect.getsource(config)
    comments = _comments(source)
    values = [recipe, *(getattr(recipe, item.name) for item in fields(recipe))]
    used = {type(value).__name__ for value in values if is_dataclass(value)}
    return {
        node.target.id: Origin("default", _comment(node, comments))
        for owner in ast.parse(source).body
        if isinstance(owner, ast.ClassDef) and owner.name in used
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }


def file_origins(path: Path | str) -> dict[str, Origin]:
    """The settings that a recipe's file names, those of the recipe it varies included."""
    file = find_config(path)
    source = file.read_text()
    comments = _comments(source)
    tree = ast.parse(source)
    found: dict[str, Origin] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "load_recipe":
            found |= file_origins(ast.literal_eval(node.args[0]))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            found[node.arg] = Origin(file.name, _comment(node, comments))
    return found


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _comments(source: str) -> dict[int, tuple[str, bool]]:
    """Line -> (text, whether the line holds nothing else)."""
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
