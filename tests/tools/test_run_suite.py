"""The command line of suites, on steps that take no time, and every shipped suite's dry run."""

import re
import runpy
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from pretrain.run.stop import DONE, FAILED, REFUSED, exit_status
from tests.transfer.results.test_table import record
from tests.transfer.suites.conftest import quick_step
from transfer.results.record import write_result
from transfer.suites.inputs import weights_file
from transfer.suites.suite import Cell, Control, Released, load_suite

ROOT = Path(__file__).resolve().parents[2]
CELL = Cell("configs/detection/shapes_mask_rcnn.py", None, arch="resnet18")
SUITE = """
from transfer.suites.suite import Suite
suite = Suite((), published=("open-mmlab/mmdetection PR #9619 log",))
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Return what runs the tool on given steps."""
    (tmp_path / "suite.py").write_text(SUITE)
    main = runpy.run_path(str(ROOT / "tools" / "run_suite.py"))
    out = tmp_path / "out"

    def run(steps, **arguments) -> int:
        monkeypatch.setitem(main["main"].__globals__, "plan", lambda *_: steps)
        return main["main"](main["Arguments"](tmp_path / "suite.py", out, gpus="none", **arguments))

    run.out, run.globals = out, main["main"].__globals__
    return run


def recorded(out: Path, name: str, ready: Path, method="scratch", **more):
    """Return a step that ends in a real record."""
    write_result(record(method, 40.0), ready / name)
    copy = f"import shutil; shutil.copytree({str(ready / name)!r}, {str(out / name)!r})\n"
    return quick_step(out, name, copy + "raise SystemExit(0)", cell=CELL, **more)


def test_released_weights_are_fetched_when_nothing_else_is_missing(tool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fetched = []

    def fetch(release, _folder):
        fetched.append(release.name)
        raise FileNotFoundError("no network")

    monkeypatch.setitem(tool.globals, "fetch_release", fetch)
    with pytest.raises(FileNotFoundError, match="spark_resnet50 is not there") as missing:
        weights_file(Released("spark_resnet50"), tmp_path)
    waits = replace(CELL, weights=Control(Released("spark_resnet50")))
    step = quick_step(tool.out, "waits", "", cell=waits)
    told = (str(missing.value),)
    assert tool([replace(step, problems=told)], dry_run=True) == REFUSED
    with pytest.raises(ValueError, match="no images"):
        tool([replace(step, problems=(*told, "no images"))])
    assert fetched == []
    with pytest.raises(FileNotFoundError, match="no network"):
        tool([replace(step, problems=told)])
    assert fetched == ["spark_resnet50"]


def test_the_table_is_written_when_steps_failed(tool, tmp_path, capsys):
    steps = [
        recorded(tool.out, "good", tmp_path / "ready"),
        quick_step(tool.out, "bad", "print('the reason'); raise SystemExit(3)", cell=CELL),
        quick_step(tool.out, "after", "", ("bad",), cell=CELL),
    ]
    assert tool(steps) == FAILED
    said = capsys.readouterr()
    assert "bad ended with status 3" in said.err
    assert "the reason" in said.err
    assert "not run, since a step they need failed: after" in said.err
    table = (tool.out / "table.md").read_text()
    assert "40.0" in table
    assert "- bad: failed\n- after: todo" in table
    assert "1 of 3 records" in said.out
    page = (tool.out / "report.html").read_text()
    assert page.count("the suite has no cell for it") == table.count("the suite has no cell for it")
    assert "the suite has no cell for it" in page


def test_the_published_table_stands_in_a_table_without_records(tool):
    steps = [quick_step(tool.out, "bad", "raise SystemExit(3)", cell=CELL)]
    assert tool(steps) == FAILED
    table = (tool.out / "table.md").read_text()
    assert "No records yet." in table
    assert "the suite has no cell for it" in table


def test_failed_steps_are_retried_only_when_asked(tool, tmp_path, capsys):
    attempts = tmp_path / "attempts"
    code = f"f = open({str(attempts)!r}, 'a'); f.write('x'); f.close(); raise SystemExit(3)"
    steps = [quick_step(tool.out, "bad", code)]
    assert tool(steps) == FAILED
    assert tool(steps) == FAILED
    assert attempts.read_text() == "x"
    assert "failed before: bad; see" in capsys.readouterr().err
    assert tool(steps, retry=True) == FAILED
    assert attempts.read_text() == "xx"


def test_redo_takes_what_builds_on_a_step_along(tool, tmp_path):
    runs = tmp_path / "runs"
    code = f"f = open({str(runs)!r}, 'a'); f.write('{{}} '); f.close()"
    steps = [
        quick_step(tool.out, "a", code.format("a")),
        quick_step(tool.out, "b", code.format("b"), ("a",)),
        quick_step(tool.out, "c", code.format("c")),
    ]
    assert tool(steps) == DONE
    assert tool(steps, redo=("a",), jobs=1) == DONE
    assert sorted(runs.read_text().split()) == ["a", "a", "b", "b", "c"]
    assert (tmp_path / "out.stale" / "a-1").is_dir()


def test_only_runs_the_steps_that_fit_and_those_that_they_need(tool):
    steps = [quick_step(tool.out, n) for n in ("pre", "other")]
    steps.append(quick_step(tool.out, "cell/lr=1", "", ("pre",)))
    assert tool(steps, only=("cell",)) == DONE
    assert (tool.out / "pre").is_dir()
    assert not (tool.out / "other").exists()


def test_explain_and_status_say_how_steps_stand(tool, capsys):
    assert tool([quick_step(tool.out, "a", settings={"config": {"lr": 1}})]) == DONE
    capsys.readouterr()
    changed = [quick_step(tool.out, "a", settings={"config": {"lr": 2}})]
    assert tool(changed, explain=("*",)) == DONE
    assert "stale   a: lr was 1, is 2" in capsys.readouterr().out
    assert tool([*changed, quick_step(tool.out, "b")], status=True) == DONE
    assert "todo    b" in capsys.readouterr().out


def test_a_change_that_does_not_matter_is_accepted(tool, capsys):
    assert tool([quick_step(tool.out, "a", settings={"config": {"lr": 1}})]) == DONE
    changed = [quick_step(tool.out, "a", settings={"config": {"lr": 1, "new": 3}})]
    assert tool(changed, accept=("a",)) == DONE
    assert "accepted: a" in capsys.readouterr().out
    assert tool(changed, status=True) == DONE
    assert "done    a" in capsys.readouterr().out


def test_what_is_missing_is_refused_before_anything_runs(tool, capsys):
    steps = [quick_step(tool.out, "a"), quick_step(tool.out, "b", problems=("no weights at x",))]
    assert exit_status(lambda: tool(steps)) == REFUSED
    assert capsys.readouterr().err == "error: no weights at x\n"
    assert not tool.out.exists()
    assert tool(steps, dry_run=True) == REFUSED
    assert "missing: no weights at x" in capsys.readouterr().out
    assert tool(steps, only=("a",)) == DONE


def test_dry_run_tells_hours_from_finished_runs_and_their_price(tool, capsys):
    assert tool([quick_step(tool.out, "a", settings={"config": 1, "seed": 0})]) == DONE
    capsys.readouterr()
    more = [quick_step(tool.out, f"b{i}", settings={"config": i, "seed": 1}) for i in (1, 2)]
    assert tool(more, dry_run=True, price=1e6) == DONE
    said = capsys.readouterr().out
    assert "todo    b2, unknown" in said
    assert "h (1 runs)" in said
    assert "at 1e+06 an hour" in said
    assert "1 steps unknown" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"jobs": 0}, "--jobs must be above 0, got 0"),
        ({"gpus_per_run": -1}, "--gpus-per-run must be above 0, got -1"),
        ({"price": float("nan")}, "--price must be above 0, got nan"),
        ({"tflops": 0.0}, "--tflops must be above 0, got 0.0"),
        ({"records": (Path("nowhere"),)}, "--records nowhere: there is no such folder"),
        ({"only": ("nothing",)}, "no step fits 'nothing'; the steps are a"),
    ],
)
def test_options_without_a_meaning_are_refused(tool, arguments, told):
    with pytest.raises(ValueError, match=told):
        tool([quick_step(tool.out, "a")], **arguments)
    assert not tool.out.exists()


def test_neither_the_current_folder_nor_a_file_is_a_suites(tmp_path):
    main = runpy.run_path(str(ROOT / "tools" / "run_suite.py"))
    with pytest.raises(ValueError, match="--out is the current folder"):
        main["main"](main["Arguments"](tmp_path / "suite.py", Path()))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: give a folder"):
        main["main"](main["Arguments"](tmp_path / "suite.py", tmp_path / "file"))


SUITES = sorted(path.stem for path in (ROOT / "configs/suites").glob("*.py"))
ARGUMENTS = {"own_encoder": "FILE", "proxy": "FILE"}


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_says_what_it_would_run(name, tmp_path, monkeypatch, capsys):
    """Cells, hours, published rows, and each thing that is not there in one line."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(ROOT / "tools" / "run_suite.py"))
    given = ("weights=spark_resnet50",) if name in ARGUMENTS else ()
    path = ROOT / "configs/suites" / f"{name}.py"
    status = main["main"](main["Arguments"](path, tmp_path, set=given, gpus="none", dry_run=True))
    said = capsys.readouterr().out
    assert f"{'todo':<7} " in said
    assert "hours unknown" in said
    lines = [line for line in said.splitlines() if line.startswith("missing: ")]
    assert status == (REFUSED if lines else DONE)
    if load_suite(path, given).shapes is not None:  # it draws its own data
        assert all("no weights at" in line for line in lines)  # encoders of another suite
        return
    assert any("DETECTRON2_DATASETS" in line for line in lines)
    assert any("is not there: get it from https://" in line for line in lines)
    assert "has no key" not in said
    assert (name in ARGUMENTS) == ("the published table beside it" not in said)


PAGE = ROOT / "docs" / "suites.md"


def commands_of_page() -> list[list[str]]:
    """Return the command lines of docs/suites.md in words, without what begins with "python"."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)
    lines = (line.partition("  #")[0].strip() for line in "".join(blocks).splitlines())
    return [shlex.split(line)[1:] for line in lines if line]


def suite_of_page() -> str:
    (text,) = re.findall(r"```python\n# configs/suites/mine.py\n(.*?)```", PAGE.read_text(), re.S)
    return text


def test_commands_of_the_page_on_suites_run(tmp_path, monkeypatch, capsys):
    """On steps that take no time, but for those that only say something: they read the suites."""
    mine = tmp_path / "mine.py"
    mine.write_text(suite_of_page())
    main = runpy.run_path(str(ROOT / "tools" / "run_suite.py"))
    scope = main["main"].__globals__
    real = scope["plan"]

    def quick_plan(suite, out, gpus=None):
        """The suite's own steps, each of which only writes its file."""
        return [replace(quick_twin(step), gpus=1) for step in real(suite, out, gpus)]

    monkeypatch.setitem(scope, "plan", quick_plan)
    monkeypatch.setitem(scope, "finish", lambda *_: None)
    monkeypatch.setitem(scope, "fetch_releases", lambda *_: False)
    monkeypatch.setitem(
        scope,
        "SlurmLauncher",
        lambda board, names, *_, **__: scope["Launcher"](board, scope["LocalExecutor"](), names),
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    seen = 0
    for tool, suite, *words in commands_of_page():
        assert tool == "tools/run_suite.py"
        suite = mine if suite.endswith("mine.py") else ROOT / suite
        arguments = tyro.cli(main["Arguments"], args=[str(suite), *words])
        assert main["main"](arguments) == DONE, [words, capsys.readouterr()]
        seen += 1
    assert seen == 8
    capsys.readouterr()


def quick_twin(step):
    """Return a step in another's place that writes the file it ends in."""
    twin = quick_step(step.folder.parent, step.folder.name)
    product = step.product.with_name(step.product.name.replace("*", "x"))
    code = twin.command[1].replace(str(twin.product), str(product))
    if product.suffix == ".safetensors":
        code = (
            "import pathlib, numpy; from safetensors.numpy import save_file\n"
            f"p = {str(product)!r}; pathlib.Path(p).parent.mkdir(parents=True, exist_ok=True)\n"
            "save_file({'x': numpy.zeros(1)}, p)"
        )
    return replace(step, command=("-c", code), problems=(), env={})
