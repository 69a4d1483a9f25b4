"""Who may import whom. Imports are read from the syntax tree, those inside functions as well."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = (
    "pretrain.batch_norm", "pretrain.checkpoint", "pretrain.findings", "pretrain.image_checks"
)  # fmt: skip
TABLES = ("transfer.table", "transfer.report")
BRANCHES = (
    "transfer.detection", "transfer.segmentation", "transfer.classification",
    "transfer.analysis", "transfer.suite", *TABLES,
)  # fmt: skip
TRUNK = "the trunk of transfer"  # every module of transfer that lies on no branch
# module or package -> what it may import of this project; the longest name that fits counts
MAY_IMPORT = {
    "pretrain": ("pretrain",),
    "transfer": (TRUNK, *CONTRACT),
    "transfer.datasets": ("transfer.datasets", *CONTRACT),
    "transfer.record": CONTRACT,
    "transfer.detection": ("transfer.detection", TRUNK, *CONTRACT),
    "transfer.segmentation": ("transfer.segmentation", TRUNK, *CONTRACT),
    "transfer.classification": ("transfer.classification", TRUNK, *CONTRACT),
    "transfer.analysis": ("transfer.analysis", TRUNK, "pretrain"),
    "transfer.table": ("transfer.record", *TABLES),
    "transfer.report": ("transfer.record", *TABLES),
    "transfer.suite": ("transfer", "pretrain"),
    "configs": ("pretrain", "transfer", "configs"),
    "tools": ("pretrain", "transfer", "tools"),
}
# frameworks -> the only place that imports them
ONLY_IN = {
    "detectron2": "transfer.detection",
    "mmseg": "transfer.segmentation",
    "mmengine": "transfer.segmentation",
    "mmcv": "transfer.segmentation",
}
FRAMEWORK_CONFIGS = ("configs.detection", "configs.segmentation")  # written in the framework's form
NEVER = {"detectron2.model_zoo": "it needs pkg_resources; build models from their classes"}
TOP = ("pretrain", "transfer", "configs", "tools")


def within(name: str, places: tuple[str, ...]) -> bool:
    if TRUNK in places and within(name, ("transfer",)) and not within(name, BRANCHES):
        return True
    return any(name == place or name.startswith(place + ".") for place in places)


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for top in TOP:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, tree: ast.AST, is_package: bool) -> set[str]:
    """The dotted names that module `name` imports; `from x import y` gives x.y where it is one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if is_package else name.split(".")[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in modules() else base)
    return found


@cache
def graph() -> dict[str, set[str]]:
    """Module -> the dotted names it imports."""
    return {
        name: imports(name, ast.parse(path.read_text()), path.name == "__init__.py")
        for name, path in modules().items()
    }


def allowed(name: str) -> tuple[str, ...]:
    return MAY_IMPORT[max((place for place in MAY_IMPORT if within(name, (place,))), key=len)]


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_what_lies_before_it(name):
    ours = {n for n in graph()[name] if within(n, (*TOP, "tests"))}
    if name.startswith("transfer"):
        ours.discard("pretrain")  # the suite's version stands there
    wrong = sorted(n for n in ours if not within(n, allowed(name)))
    assert not wrong, f"{name} imports {', '.join(wrong)}; it may import {', '.join(allowed(name))}"


@pytest.mark.parametrize("framework", sorted(ONLY_IN))
def test_a_framework_is_imported_in_one_place(framework):
    place = ONLY_IN[framework]
    users = [n for n, found in graph().items() if any(within(f, (framework,)) for f in found)]
    wrong = [n for n in users if not within(n, (place, *FRAMEWORK_CONFIGS, "tools.benchmarks"))]
    assert not wrong, f"{', '.join(wrong)} imports {framework}; only {place} may"


@pytest.mark.parametrize("banned", sorted(NEVER))
def test_never_imported(banned):
    users = [n for n, found in graph().items() if any(within(f, (banned,)) for f in found)]
    assert not users, f"{', '.join(users)} imports {banned}: {NEVER[banned]}"


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Every set of modules that import one another (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in edges[node]:
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1 or node in edges[node]:
                found.append(sorted(members))

    for node in edges:
        if node not in order:
            visit(node)
    return found


def test_no_import_cycle():
    edges = {name: {f for f in found if f in modules()} for name, found in graph().items()}
    found = cycles(edges)
    assert not found, "import cycles: " + "; ".join(" <-> ".join(c) for c in found)


def test_the_checks_see_what_they_should():
    tree = ast.parse("def f():\n    from transfer import suite\n    import detectron2.modeling")
    assert imports("pretrain.x", tree, False) == {"transfer.suite", "detectron2.modeling"}
    tree = ast.parse("from . import record\nfrom .weights import load")
    assert imports("transfer.x", tree, False) == {"transfer.record", "transfer.weights.load"}
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []
