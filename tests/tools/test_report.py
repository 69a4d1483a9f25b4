"""make_table and report as commands: what they write, print and refuse."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.transfer.results.test_table import record
from transfer.results.record import write_result

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_result(record("scratch", 40.0), tmp_path / "runs" / "scratch")
    write_result(record("fcmae", 42.5), tmp_path / "runs" / "deep" / "fcmae")
    return tmp_path / "runs"


def call(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_is_written_and_printed(runs: Path, tmp_path: Path):
    done = call("make_table.py", runs, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "+2.5" in done.stdout
    assert "2 records" in done.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["table.csv", "table.md", "table.tex"]


def test_the_report_is_written(runs: Path, tmp_path: Path):
    done = call("report.py", runs, "--out", tmp_path / "out", "--title", "Ours & theirs")
    assert done.returncode == 0, done.stderr
    assert "2 records" in done.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<title>Ours &amp; theirs</title>" in page
    assert "+2.5" in page


def test_the_report_shows_the_published_table_of_a_suite(runs: Path, tmp_path: Path):
    suite = ROOT / "configs/suites/beit_table7_ade20k.py"
    done = call("report.py", runs, "--out", tmp_path / "out", "--suite", suite)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("not run (segmentation/beit_") == 6
    demo = call("report.py", runs, "--out", tmp_path / "d", "--suite", suite.with_name("demo.py"))
    assert demo.returncode == 2
    assert "stands beside no published table" in demo.stderr


@pytest.mark.parametrize("tool", ["make_table.py", "report.py"])
def test_a_place_without_records_is_one_line(tool: str, tmp_path: Path):
    done = call(tool, tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no result.json under {tmp_path}")
    assert not (tmp_path / "out").exists()


def test_a_table_needs_neither_torch_nor_a_plotting_library():
    code = "import sys, tools.make_table; print([m for m in ('torch', 'timm', 'matplotlib', "
    code += "'scipy.stats') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_a_page_or_figures_that_cannot_be_read_are_refused_before_the_table(tmp_path, runs):
    (tmp_path / "page.md").write_text("no marks")
    (tmp_path / "bad.json").write_text("{")
    for option, file, told in (
        ("--into", "page.md", "needs a line <!-- table: begin -->"),
        ("--into", "gone.md", "there is no page"),
        ("--published", "bad.json", "bad.json cannot be read"),
        ("--published", "gone.json", "gone.json cannot be read"),
    ):
        done = call("make_table.py", runs, "--out", tmp_path / "out", option, tmp_path / file)
        assert done.returncode == 2
        assert told in done.stderr
        assert not (tmp_path / "out").exists()
