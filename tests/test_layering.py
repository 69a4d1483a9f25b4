"""Who may import whom, as one table; read from the syntax tree, imports inside functions too."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = ("pretrain.files", "pretrain.run", "pretrain.checks", "pretrain.encoders")
TASK = (*GROUND, "transfer.features", "transfer.weights", "transfer.datasets", "transfer.results")
# package or module -> what it may import besides itself; the longest name that fits counts
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(GROUND, GROUND),
    "pretrain": ("pretrain",),
    "transfer": (),
    "transfer.tasks": (),
    "transfer.features": GROUND,
    "transfer.weights": (*GROUND, "transfer.features"),
    "transfer.datasets": (*GROUND, "pretrain.data"),
    "transfer.results": (*GROUND, "transfer.tasks"),
    "transfer.detection": TASK,
    "transfer.segmentation": TASK,
    # it has no framework of its own: data and schedule are those of pretraining
    "transfer.classification": (*TASK, "pretrain.config", "pretrain.data", "pretrain.schedule"),
    "transfer.analysis": ("pretrain", "transfer.features", "transfer.weights"),
    "transfer.suites": ("pretrain", "transfer"),
    "transfer.rehearsal": ("pretrain", "transfer"),
    "configs": ("pretrain", "transfer"),
    "tools": ("pretrain", "transfer"),
}
# framework -> the only place that imports it
ONLY_IN = {
    "detectron2": "transfer.detection",
    "mmseg": "transfer.segmentation",
    "mmengine": "transfer.segmentation",
    "mmcv": "transfer.segmentation",
}
# written in the framework's form, or compared with the framework
ALSO_MAY = (
    "configs.detection",
    "configs.segmentation",
    "tools.benchmarks",
    "tools.golden.make_detectors",
    "tools.golden.make_mmdet_detectors",
    "tools.golden.make_segmentors",
)
NEVER = {"detectron2.model_zoo": "it needs pkg_resources; build models from their classes"}
TOP = ("pretrain", "transfer", "configs", "tools")


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


@cache
def modules() -> dict[str, Path]:
    """Return every module of the project by its dotted name."""
    found = {}
    for top in TOP:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, tree: ast.AST, is_package: bool) -> set[str]:
    """Return the dotted names that `name` imports; x.y for `from x import y` of a module y."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if is_package else name.split(".")[:-1]
                parents = package[: len(package) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in modules() else base)
    return found


@cache
def graph() -> dict[str, set[str]]:
    """Return module -> the dotted names it imports."""
    return {
        name: imports(name, ast.parse(path.read_text()), path.name == "__init__.py")
        for name, path in modules().items()
    }


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_what_its_row_allows(name):
    row = max((place for place in MAY_IMPORT if within(name, (place,))), key=len)
    allowed = (row, *MAY_IMPORT[row])
    ours = {n for n in graph()[name] if within(n, (*TOP, "tests"))} - {"pretrain"}  # the version
    wrong = sorted(n for n in ours if not within(n, allowed))
    assert not wrong, f"{name} imports {', '.join(wrong)}; it may import {', '.join(allowed)}"


@pytest.mark.parametrize("framework", sorted(ONLY_IN))
def test_a_framework_is_imported_in_one_place(framework):
    place = ONLY_IN[framework]
    users = [n for n, found in graph().items() if any(within(f, (framework,)) for f in found)]
    wrong = [n for n in users if not within(n, (place, *ALSO_MAY))]
    assert not wrong, f"{', '.join(wrong)} imports {framework}; only {place} may"


@pytest.mark.parametrize("banned", sorted(NEVER))
def test_never_imported(banned):
    users = [n for n, found in graph().items() if any(within(f, (banned,)) for f in found)]
    assert not users, f"{', '.join(users)} imports {banned}: {NEVER[banned]}"


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Return one cycle of modules that import one another; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_import_cycle():
    edges = {name: {f for f in found if f in modules()} for name, found in graph().items()}
    assert not cycle(edges), "import cycle: " + " <- ".join(cycle(edges))


def test_the_checks_see_what_they_should():
    tree = ast.parse("def f():\n    from transfer import suites\n    import detectron2.modeling")
    assert imports("pretrain.x", tree, False) == {"transfer.suites", "detectron2.modeling"}
    tree = ast.parse("from . import results\nfrom .weights import load")
    assert imports("transfer.x", tree, False) == {"transfer.results", "transfer.weights.load"}
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert cycle({"a": {"b"}, "b": set()}) == []


PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix()
    for top in ("pretrain", "transfer")
    for path in (ROOT / top).rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_begins_with_a_map_of_its_folder(package):
    folder = ROOT / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    named = set(re.findall(r"\b[a-z0-9_]+(?:\.py|/)(?=[\s,;:)]|$)", text))
    here = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    here |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert here <= named, f"{package}/__init__.py lacks {', '.join(sorted(here - named))}"
    gone = {name for name in named if not (folder / name).exists()}
    assert not gone, f"{package}/__init__.py names what is not there: {', '.join(sorted(gone))}"
