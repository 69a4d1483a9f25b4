"""The report: one page without other files, hostile names as text, sorting and filtering alive."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pretrain.files.lineage import Stage
from tests.transfer.results.test_table import record
from transfer.results.published import Line
from transfer.results.record import Cost, Origin, Result, write_evaluation, write_result
from transfer.results.report import write_report
from transfer.results.report.curves import points
from transfer.results.report.figures import signed
from transfer.results.report.gains import class_gains, gains
from transfer.results.report.page import series_of
from transfer.results.report.picture import draw_gains
from transfer.results.report.runs import Run, read_log
from transfer.results.report.scaling import LABELS, LENGTH, SIZE, lines, scaling_sections
from transfer.results.table import build_table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"
)
HOSTILE = '"><script>document.title="run"</script>'
COMMAND = "python tools/train_net.py 'weights=a b.pth' seed={}"


def write_run(folder: Path, result: Result) -> Path:
    """Write a record with a log and a picture beside it, as a run leaves them."""
    write_result(result, folder)
    lines = [{"step": step, "loss": 3 - step / 10} for step in range(1, 6)]
    lines[2:2] = [{"step": 2, "AP_box": 20.0}]  # an evaluation during training
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
    return record("spark", 42.0, notes=[HOSTILE], command=HOSTILE)


def seeds(tmp_path: Path) -> list[Result]:
    """Two sizes of a network, each pretrained and from scratch, with two seeds and classes."""
    pretraining = tmp_path / "pretrain"
    pretraining.mkdir()
    Image.new("RGB", (64, 32), "olive").save(pretraining / "reconstructions.png")
    lines = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    (pretraining / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    weights = {"sha256": "b" * 64, "file": str(pretraining / "encoder.safetensors")}
    base = record("scratch", 1.0)
    data = base.dataset.model_copy(update={"classes": ["cat", "dog"]})
    found = []
    for size, name in enumerate(("resnet18", "resnet34")):
        for seed in (0, 1):
            same = {
                "backbone": name,
                "seed": seed,
                "dataset": data,
                "command": COMMAND.format(seed),
                "cost": Cost(hours=0.5, devices=4, peak_memory_mib=2048),
                "evaluated_at": datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
                "config": Origin(name="resnet50_1x", train={"schedule.steps": [90000, 9]}, eval={}),
            }
            classes = {"cat": {"AP_box": 10.0}, "dog": {"AP_box": 20.0}}
            found.append(record("scratch", 40.0 + seed, **same, per_class=classes))
            classes = {"cat": {"AP_box": 12.5 + seed}, "dog": {"AP_box": 20.0}}
            stages = (Stage("spark", data="IN1K", labels=False, epochs=1600),)
            value = 42.0 + size + seed + seed / 10
            same |= {"weights": weights, "per_class": classes}
            found.append(record("spark", value, stages=stages, **same))
    return found


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


def test_the_page_needs_no_other_file(report, tmp_path):
    text, _ = report(*seeds(tmp_path))
    links = Links(text)
    assert all(source.startswith("data:") for source in links.loaded)
    assert len(links.loaded) == 4 + 1  # first seeds' predictions, one pretraining
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)


def test_the_page_holds_all_that_it_promises(report, tmp_path):
    text, _ = report(*seeds(tmp_path))
    sections = re.findall(r'<section id="(\w+)"', text)
    assert sections == [
        "results",
        "gains",
        "scaling",
        "classes",
        "curves",
        "predictions",
        "reconstructions",
        "runs",
        "repeat",
    ]
    for heading in ("Pretraining loss", "Loss of the transfer runs", "Metrics during training"):
        assert f"<h3>{heading}</h3>" in text
    assert "16 <small>device hours" in text  # 8 runs of half an hour on 4 devices
    assert "4 \N{MULTIPLICATION SIGN} cpu" in text
    assert "2026-03-04 05:06" in text
    assert "2.00</td>" in text  # GiB
    assert "resnet50_1x" in text
    assert "schedule.steps: 90000 → 9" in text
    assert text.count("<pre><code>python tools/train_net.py &#39;weights=a b.pth&#39; seed=1") == 4


def test_the_published_table_of_a_suite_stands_in_the_page(tmp_path):
    figure = {"method": "fcmae", "backbone": "ConvNeXt V2-B", "metric": "AP_box", "value": 52.9}
    figure |= {"schedule": "3x", "source": "Table 6"}
    lines = [Line(figure, 52.5, HOSTILE), Line({**figure, "value": 51.0}, None, "not run")]
    runs = [write_run(tmp_path / "run", record("spark", 42.0))]
    (tmp_path / "published.json").write_text("[]")
    write_report(runs, tmp_path / "out", tmp_path / "published.json", lines=lines)
    text = (tmp_path / "out" / "report.html").read_text()
    (shown,) = re.findall(r'<section id="suite".*?</section>', text, re.S)
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", shown, re.S)]
    assert cells[:5] == ["ConvNeXt V2-B", "AP_box", "52.9", "52.5", "-0.4"]
    assert cells[8:14] == ["ConvNeXt V2-B", "AP_box", "51.0", "", "", "not run"]
    assert HOSTILE not in text
    assert text.count('href="#suite"') == 1


def test_labels_seen_before_the_transfer_are_shown(report):
    once, twice = Stage("fcmae", data="IN1K", labels=False), Stage("supervised", "IN22K", True)
    text, _ = report(record("x", 41.0, stages=(once,)), record("x", 43.0, stages=(once, twice)))
    assert re.findall(r'data-label="Labels before transfer">(.*?)<', text) == ["no", "IN22K"]
    text, _ = report(record("x", 41.0, stages=(once,)))
    assert "Labels before transfer" not in text


def dial(steps: int, labels: int, seed: int, gain: float) -> list[Result]:
    """A pretrained run, and one from scratch with as many labels."""
    base = record("scratch", 1.0)
    data = base.dataset.model_copy(update={"train_images": labels})
    same = {"dataset": data, "seed": seed, "protocol": {"data": {"images": labels}}}
    stages = [Stage("spark", labels=False, steps=steps)]
    value = 20 + labels / 100 + seed / 10
    return [
        record("spark", value + gain, stages=stages, sha=str(steps % 10), **same),
        record("scratch", value, **same),
    ]


def test_a_dial_of_pretraining_and_labels_becomes_two_lines():
    at = {(250, 300): 0.5, (1001, 300): 1.5, (4002, 300): 2.5, (4002, 100): 4.0}
    records = [r for seed in (0, 1) for (s, n), gain in at.items() for r in dial(s, n, seed, gain)]
    table = build_table(records)
    column = table.columns[0]
    (length,), (labels,) = lines(table, column, LENGTH), lines(table, column, LABELS)
    assert lines(table, column, SIZE) == []
    assert length.x == [250, 1001, 4002]
    assert [d.points for d in length.differences] == pytest.approx([0.5, 1.5, 2.5])
    assert labels.x == [100, 300]
    assert [d.points for d in labels.differences] == pytest.approx([4.0, 2.5])
    assert [s.heading for s in scaling_sections(table, series_of(table))] == [
        LENGTH.heading,
        LABELS.heading,
    ]


def test_the_picture_of_gains_has_a_row_of_panels_for_each_dial(tmp_path):
    def height(records: list[Result]) -> int:
        draw_gains(build_table(records), tmp_path / "gains.png")
        with Image.open(tmp_path / "gains.png") as picture:
            return picture.height

    both_seeds = [r for seed in (0, 1) for r in dial(250, 300, seed, 1.0)]
    longer = [r for seed in (0, 1) for r in dial(1001, 300, seed, 2.0)[:1]]
    assert height(both_seeds + longer) > height(both_seeds) + 200
    with pytest.raises(ValueError, match="no run has another from scratch beside it"):
        draw_gains(build_table([record("spark", 1.0)]), tmp_path / "none.png")


def test_panels_of_dials_stand_side_by_side_where_other_columns_have_none(tmp_path):
    def height(records: list[Result]) -> int:
        draw_gains(build_table(records), tmp_path / "gains.png")
        with Image.open(tmp_path / "gains.png") as picture:
            return picture.height

    length = [r for seed in (0, 1) for steps in (250, 1001) for r in dial(steps, 300, seed, 1.0)]
    both = length + [r for seed in (0, 1) for r in dial(250, 100, seed, 1.0)]
    elsewhere = {"dataset": length[0].dataset.model_copy(update={"name": "elsewhere"})}
    undialled = [r.model_copy(update=elsewhere) for r in length[:2] + length[4:6]]
    assert height(both) > height(length) + 200  # two columns: one dial under the other
    assert height(both + undialled) == height(length)  # four columns: beside each other


def test_gains_have_their_intervals_on_one_axis(tmp_path):
    box, _ = gains(build_table(seeds(tmp_path)))
    assert box.title == "AP_box"
    for gain in box.gains:
        assert gain.left < gain.at < gain.left + gain.width <= 100
    assert box.gains[0].at < box.gains[1].at  # two points, then three
    (single,) = gains(build_table([record("scratch", 40.0), record("spark", 41.0)]))[0].gains
    assert single.left is None


def test_a_later_evaluation_is_of_its_run(tmp_path):
    result = record("spark", 42.0)
    run = write_run(tmp_path / "run", result)
    views = {"tta": {"flip": True}}
    later = record("spark", 43.0, evaluation=views)
    fields = ("eval", "eval_hash", "metrics", "evaluator")
    path = write_evaluation(result, run, **{name: getattr(later, name) for name in fields})
    (tmp_path / "published.json").write_text("[]")
    write_report([run, path], tmp_path / "out", tmp_path / "published.json")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "AP_box (multi-scale)" in text
    assert text.count("<svg") == 2  # one loss and one metric, not two
    assert "1 run on cpu" in text


def test_a_pretraining_is_found_where_the_run_was_started(tmp_path):
    weights = {"sha256": "b" * 64, "file": "runs/spark/encoder.safetensors"}
    result = record("spark", 42.0, weights=weights)
    run = Run(tmp_path / "runs" / "detection", result)
    assert run.pretraining is None
    (tmp_path / "runs" / "spark").mkdir(parents=True)
    assert run.pretraining == tmp_path / "runs" / "spark"
    assert Run(run.folder, record("scratch", 1.0)).pretraining is None


def test_a_hostile_name_is_text(report):
    hostile = hostile_record()
    text, _ = report(record("scratch", 40.0), hostile)
    assert Links(text).tags.count("script") == 1
    assert "&lt;script&gt;" in text


def in_browser(page: Path, script: str, width: int = 1280) -> dict[str, str]:
    """Run a script in the page; return what it wrote into document.body.dataset."""
    text = page.read_text().replace("</body>", f"<script>{script}</script></body>")
    page.write_text(text)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command = [str(CHROMIUM), *options, f"--window-size={width},900", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "<title>Transfer of masked pretraining</title>" in done.stdout
    (body,) = re.findall(r"<body([^>]*)>", done.stdout)
    return dict(re.findall(r'data-(\w+)="([^"]*)"', body))


@needs_browser
def test_a_browser_shows_the_table_and_runs_no_name(report):
    _, page = report(record("scratch", 40.0), hostile_record())
    found = in_browser(
        page,
        """
        const said = document.body.dataset, all = (s) => [...document.querySelectorAll(s)];
        const rows = () => all("#results tbody tr").filter((row) => !row.hidden);
        all("#results thead button")[2].click();
        said.sorted = all("#results thead th")[2].getAttribute("aria-sort");
        said.first = rows()[0].cells[0].textContent.trim();
        const filter = document.querySelector("#results input");
        filter.value = "scr"; filter.dispatchEvent(new Event("input"));
        said.left = rows().map((row) => row.cells[0].textContent.trim());
        said.told = document.querySelector("#results output").textContent;
        const choice = document.querySelector("[data-column]");
        choice.checked = false; choice.dispatchEvent(new Event("change"));
        said.hidden = all("#results thead th").filter((head) => head.hidden).length;
        document.querySelector(".picture").click();
        const shown = document.querySelector("dialog[open] img");
        said.enlarged = shown.src === document.querySelector(".picture img").src;
        dispatchEvent(new Event("beforeprint"));
        said.closed = all("details:not([open])").length;
        """,
    )
    assert found == {
        "sorted": "descending",
        "first": "SparK",
        "left": "Scratch",
        "told": "1 of 2 shown",
        "hidden": "2",
        "enlarged": "true",
        "closed": "0",
    }


@needs_browser
@pytest.mark.parametrize("width", [500, 1280])  # headless chromium has no narrower window
def test_nothing_is_wider_than_the_window(report, tmp_path, width):
    _, page = report(*seeds(tmp_path))
    script = """
        for (const part of document.querySelectorAll("details")) part.open = true;
        document.body.dataset.wide = document.documentElement.scrollWidth -
            document.documentElement.clientWidth;
        const small = [...document.querySelectorAll("td, p, li")].filter(
            (e) => e.textContent && Number.parseFloat(getComputedStyle(e).fontSize) < 11);
        document.body.dataset.small = small.length;
        """
    assert in_browser(page, script, width) == {"wide": "0", "small": "0"}


def test_every_control_is_reached_by_keyboard(report, tmp_path):
    text, _ = report(*seeds(tmp_path))
    assert 'class="skip" href="#results"' in text
    for region in re.findall(r'<div class="scroll[^>]*>', text):
        assert 'tabindex="0"' in region
        assert "aria-label=" in region
    assert not re.search(r"<(div|span|td|th|i)[^>]* onclick", text)
    assert all("alt=" in image for image in re.findall(r"<img[^>]*>", text))
    assert all('role="img" aria-label="' in figure for figure in re.findall(r"<svg[^>]*>", text))


def test_a_difference_that_rounds_to_zero_has_no_sign():
    assert [signed(x) for x in (-0.04, 0.0, 0.06, -1.25)] == ["0.0", "0.0", "+0.1", "-1.2"]


def test_curves_skip_a_damaged_log(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2}\n{"step": 3, "loss": 1.0}\n')
    assert points(read_log(log), "loss") == ([1, 3], [2.0, 1.0])
    log.write_text('{"step": 1, "lo')
    assert points(read_log(log), "loss") == ([], [])


@pytest.mark.parametrize("metric_first", [True, False])
def test_gains_by_class_take_either_nesting(metric_first):
    classes = ["cat", "dog"]

    def made(method: str, shift: float, **changes: object) -> Result:
        values = {"cat": 10.0 + shift, "dog": 20.0}
        nested = {"AP_box": values} if metric_first else {c: {"AP_box": values[c]} for c in classes}
        data = record(method, 40.0).dataset.model_copy(update={"classes": classes})
        return record(method, 40.0, dataset=data, per_class=nested, **changes)

    other = made("scratch", 9, backbone="another")  # is not the baseline
    (part,) = class_gains(build_table([made("scratch", 0), made("spark", 2.5), other]))
    assert part.title == "AP_box"
    assert part.rows == [("cat", [2.5]), ("dog", [0.0])]
