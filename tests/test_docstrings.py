"""A public function that raises says in its docstring what it raises.

ruff holds that public functions have a docstring at all (rules D1) and its shape.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for top in ("pretrain", "transfer") for p in (ROOT / top).rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Yield the public functions of a module and the public methods of its public classes."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        if isinstance(node, ast.ClassDef) and node.name.startswith("_"):
            continue
        for item in inside:
            if isinstance(item, Function) and not item.name.startswith("_"):
                yield item


def raised(function: Function) -> set[str]:
    """Return the names of the errors that a function raises itself, functions inside it aside."""
    found: set[str] = set()
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name) and error.id[0].isupper():
                found.add(error.id)
        stack += ast.iter_child_nodes(node)
    return found - {"NotImplementedError"}


def silent(path: Path) -> list[str]:
    """Return the public functions of a file whose docstring does not name an error they raise."""
    tree = ast.parse(path.read_text())
    return [
        f"{function.name} raises {error}"
        for function in public_functions(tree)
        for error in sorted(raised(function))
        if error not in (ast.get_docstring(function) or "")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_function_that_raises_says_what(path):
    assert not silent(path)


def test_the_check_sees_what_it_should(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        "def quiet():\n    '''Do.'''\n    raise ValueError('x')\n"
        "def says():\n    '''Do. Raises ValueError if.'''\n    raise ValueError('x')\n"
        "def _private():\n    raise ValueError('x')\n"
        "class A:\n    def method(self):\n        raise KeyError\n"
    )
    assert silent(file) == ["quiet raises ValueError", "method raises KeyError"]
