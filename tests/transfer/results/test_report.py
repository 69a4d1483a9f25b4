"""The report: one page without other files, hostile names as text, sorting and filtering alive."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.transfer.results.test_table import record
from transfer.results.record import Result, write_result
from transfer.results.report import write_report
from transfer.results.report.figures import signed
from transfer.results.report.page import class_differences, curve_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = '"><script>document.title="run"</script>'


def write_run(folder: Path, result: Result) -> Path:
    """Write a record with a log and a picture beside it, as a run leaves them."""
    write_result(result, folder)
    lines = [{"step": step, "loss": 3 - step / 10} for step in range(1, 6)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    Image.new("RGB", (64, 32), "teal").save(folder / "predictions.png")
    return folder


@pytest.fixture
def report(tmp_path: Path):
    """Write the report of records; return the page's text and its path."""

    def write(*records: Result) -> tuple[str, Path]:
        runs = [write_run(tmp_path / f"run{i}", r) for i, r in enumerate(records)]
        (tmp_path / "published.json").write_text("[]")
        write_report(runs, tmp_path / "out", tmp_path / "published.json")
        page = tmp_path / "out" / "report.html"
        return page.read_text(), page

    return write


def hostile_record() -> Result:
    return record("spark", 42.0).model_copy(update={"notes": [HOSTILE]})


class Links(HTMLParser):
    """Collect what a page would load, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [
            v for k, v in attrs if k in ("src", "srcset") or (k, tag) == ("href", "link")
        ]


def test_the_page_needs_no_other_file(report):
    text, _ = report(record("scratch", 40.0), record("spark", 42.0))
    links = Links(text)
    assert all(source.startswith("data:") for source in links.loaded)
    assert len(links.loaded) == 2
    assert "svg" in links.tags
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)


def test_a_hostile_name_is_text(report):
    hostile = hostile_record()
    text, _ = report(record("scratch", 40.0), hostile)
    assert Links(text).tags.count("script") == 1
    assert "&lt;script&gt;" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
def test_a_browser_shows_the_table_and_runs_no_name(report):
    _, page = report(record("scratch", 40.0), hostile_record())
    script = (
        "document.querySelectorAll('#results thead button')[2].click();"
        "document.body.dataset.first = document.querySelector('#results tbody tr').textContent"
    )
    page.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "<title>Transfer of masked pretraining</title>" in done.stdout
    assert 'aria-sort="descending"' in done.stdout
    assert "data-first=" in done.stdout


def test_a_difference_that_rounds_to_zero_has_no_sign():
    assert [signed(x) for x in (-0.04, 0.0, 0.06, -1.25)] == ["0.0", "0.0", "+0.1", "-1.2"]


def test_curves_skip_a_damaged_log(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2}\n{"step": 3, "loss": 1.0}\n')
    assert curve_of(log, "loss") == ([1, 3], [2.0, 1.0])
    log.write_text('{"step": 1, "lo')
    assert curve_of(log, "loss") == ([], [])


def test_gains_by_class_take_either_nesting(tmp_path):
    from transfer.results.report.page import Run

    classes = ["cat", "dog"]

    def made(method: str, shift: float, metric_first: bool) -> Run:
        values = {"cat": 10.0 + shift, "dog": 20.0}
        nested = {"AP_box": values} if metric_first else {c: {"AP_box": values[c]} for c in classes}
        base = record(method, 40.0)
        data = base.dataset.model_copy(update={"classes": classes})
        return Run(tmp_path, base.model_copy(update={"dataset": data, "per_class": nested}))

    for metric_first in (True, False):
        (part,) = class_differences(
            [made("scratch", 0, metric_first), made("spark", 2.5, metric_first)]
        )
        assert part["rows"] == [("cat", [2.5]), ("dog", [0.0])]
