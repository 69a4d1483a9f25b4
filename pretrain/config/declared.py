"""What a dataclass of settings declares, in words: types from its fields, ranges from its checks.

The checks of pretrain.config.ranges in `__post_init__` are read from the source, so that a page of
settings says what is refused, and nothing else.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

KINDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    dict: "keys with values",
    type(None): "None",
}
ABOVE, BELOW = "above {}", "below {}"
LEAST, MOST = "at least {}", "at most {}"
SAID = {ast.Lt: (ABOVE, BELOW), ast.LtE: (LEAST, MOST)}  # constant < setting, setting < constant
SAID |= {ast.Gt: (BELOW, ABOVE), ast.GtE: (MOST, LEAST)}


def declared(settings: type) -> dict[str, str]:
    """Return type and range of each setting of a dataclass, those of its groups included."""
    found: dict[str, str] = {}
    hints, limits = get_type_hints(settings), ranges(settings)
    for item in fields(settings):
        kind = hints[item.name]
        groups = [k for k in (get_args(kind) or (kind,)) if is_dataclass(k)]
        for group in groups:
            found = {**declared(group), **found}  # type: ignore[arg-type]
        if not groups:
            found[item.name] = ", ".join([kind_in_words(kind), *limits.get(item.name, ())])
    return found


def kind_in_words(kind: Any) -> str:
    """Return a type in words: "whole number or None", "spark, mae or beit", "two numbers"."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(kind_in_words, parts))
    if origin is Literal:
        return either(list(map(str, parts)))
    if origin is tuple:
        several = f"{kind_in_words(parts[0])}s"
        return several if parts[-1] is Ellipsis else f"{len(parts)} {several}"
    return KINDS[origin or kind]


def either(words: list[str]) -> str:
    """Return "a, b or c"."""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def ranges(settings: type) -> dict[str, list[str]]:
    """Return what the checks in `__post_init__` demand of each setting."""
    check = settings.__dict__.get("__post_init__")
    if check is None:
        return {}
    names = vars(sys.modules[settings.__module__])
    found: dict[str, list[str]] = {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(check)))
    each = dict(_elements(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for name, words in _demands(node.func.id, node.args):
                found.setdefault(name, []).append(words)
        elif isinstance(node, ast.Compare):
            for name, words in _compared(node, names, each):
                found.setdefault(name, []).append(words)
    return found


def _demands(check: str, arguments: list[ast.expr]) -> Iterator[tuple[str, str]]:
    """Yield the settings that a call of pretrain.config.ranges names, and what it demands."""
    constants = [a.value for a in arguments if isinstance(a, ast.Constant)]
    named = [value for value in constants if isinstance(value, str)]
    if check == "above_zero":
        yield from ((name, ABOVE.format(0)) for name in named)
    elif check == "at_least":
        least = next(value for value in constants if not isinstance(value, str))
        yield from ((name, LEAST.format(least)) for name in named)
    elif check == "shares":
        yield from ((name, f"{LEAST.format(0)}, {MOST.format(1)}") for name in named)
    elif check == "rising":
        most = f", {MOST.format(constants[0])}" if constants[0] not in named else ""
        yield from ((name, f"{ABOVE.format(0)}{most}, low to high") for name in named)


def _elements(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield variable and setting of `... for VARIABLE in self.SETTING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.comprehension) and isinstance(node.target, ast.Name):
            setting = _setting(node.iter, {})
            if setting:
                yield node.target.id, setting


def _compared(
    node: ast.Compare, names: dict[str, Any], each: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the settings that stand beside a number in a comparison, and what it demands."""
    sides = [node.left, *node.comparators]
    for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
        said = SAID.get(type(operator))
        for place, (setting, number) in enumerate(((right, left), (left, right))):
            name, value = _setting(setting, each), _number(number, names)
            if said and name and value is not None:
                yield name, said[place].format(value)


def _setting(node: ast.expr, each: dict[str, str]) -> str | None:
    """Return NAME of `self.NAME`, of `(self.NAME or 0)`, or of an element of it."""
    if isinstance(node, ast.BoolOp):
        node = node.values[0]
    if isinstance(node, ast.Name):
        return each.get(node.id)
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
        return node.attr
    return None


def _number(node: ast.expr, names: dict[str, Any]) -> float | None:
    """Return the number of a literal, or of a constant of the module."""
    value = names.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
    return value if isinstance(value, int | float) else None
