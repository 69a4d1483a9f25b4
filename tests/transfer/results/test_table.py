"""Records -> table: means, differences from scratch, notes, published figures."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from pretrain.files.lineage import Stage, method_of, stages_of_method
from transfer.results.files import BEGIN, END, put_into
from transfer.results.formats import CSV_HEADER, grid_to_markdown
from transfer.results.protocol import protocol_hash
from transfer.results.record import Cost, Dataset, Environment, Result, write_result
from transfer.results.report import write_report
from transfer.results.table import build_table, to_csv, to_html, to_latex, to_markdown


def record(
    method,
    value,
    *,
    backbone="convnextv2_base",
    seed=0,
    protocol=None,
    dataset="coco_2017",
    sha="0",
    stages=None,
    evaluation=None,
    **changes,
):
    """A detection record; `sha` is a hex digit that its weights' SHA-256 is made of."""
    protocol = {"max_iter": 100} if protocol is None else protocol
    evaluation = {"tta": None} if evaluation is None else evaluation
    if isinstance(dataset, str):
        dataset = Dataset(name=dataset, train_images=2, val_images=1, classes=["a"])
    stages = stages or (() if method == "scratch" else stages_of_method(method))
    fields = {
        "task": "detection",
        "method": method_of(stages),
        "stages": list(stages),
        "backbone": backbone,
        "weights": {"sha256": sha * 64} if stages else None,
        "dataset": dataset,
        "train": protocol,
        "train_hash": protocol_hash(protocol),
        "eval": evaluation,
        "eval_hash": protocol_hash(evaluation),
        "seed": seed,
        "metrics": {"AP_box": value, "AP_mask": value / 2},
        "evaluator": "test",
        "cost": Cost(hours=0.1),
        "environment": Environment(
            suite_version="0", commit="c", dirty=False, python="3", packages={}, device="cpu"
        ),
    }
    return Result(**(fields | changes))


def test_difference_is_taken_from_scratch_of_the_same_backbone():
    table = build_table(
        [record("scratch", 40.0), record("fcmae", 50.0), record("scratch", 10.0, backbone="other")]
    )
    (row,) = [r for r in table.rows if r.method == "fcmae"]
    box = row.cells[table.columns[0]]
    assert (box.mean, box.delta, box.n, box.sd) == (50.0, 10.0, 1, None)
    assert "+10.0" in to_markdown(table)


def test_seeds_become_mean_and_standard_deviation():
    table = build_table([record("scratch", v, seed=s) for s, v in enumerate((10.0, 12.0, 14.0))])
    cell = table.rows[0].cells[table.columns[0]]
    assert (cell.mean, cell.sd, cell.n) == (12.0, 2.0, 3)
    assert "12.0 ± 2.0 (n=3)" in to_markdown(table)


def test_no_difference_across_protocols_and_a_note_says_which_settings_differ():
    table = build_table(
        [record("scratch", 40.0, protocol={"max_iter": 200}), record("fcmae", 50.0)]
    )
    cell = next(r for r in table.rows if r.method == "fcmae").cells[table.columns[0]]
    assert cell.delta is None
    assert any("differ in max_iter" in note for note in table.notes)
    assert any("no Δ: FCMAE AP_box" in note for note in table.notes)


def test_two_protocols_never_share_a_cell():
    table = build_table([record("fcmae", 1.0), record("fcmae", 2.0, protocol={"max_iter": 7})])
    assert sorted((r.label, r.cells[table.columns[0]].mean) for r in table.rows) == [
        ("convnextv2_base [max_iter=100]", 1.0),
        ("convnextv2_base [max_iter=7]", 2.0),
    ]


def test_datasets_get_columns_of_their_own():
    table = build_table([record("fcmae", 1.0), record("fcmae", 2.0, dataset="nuclei")])
    assert [c.title for c in table.columns if c.metric == "AP_box"] == [
        "AP_box (coco_2017)",
        "AP_box (nuclei)",
    ]


def test_arguments_of_a_backbone_are_a_note():
    small = record("fcmae", 1.0).model_copy(update={"backbone_args": {"depths": [1, 1]}})
    other = record("fcmae", 1.0).model_copy(update={"backbone_args": {"depths": [2, 2]}})
    table = build_table([small, other])
    assert table.notes[1] == "convnextv2_base** = convnextv2_base(depths=[2, 2])"
    assert table.notes[0] == "convnextv2_base* = convnextv2_base(depths=[1, 1])"
    assert "| FCMAE    | convnextv2_base*  |" in to_markdown(table)


def test_labels_seen_before_the_transfer_have_a_column():
    none = Stage("fcmae", data="IN1K", labels=False)
    tuned = Stage("supervised", data="IN1K", labels=True)
    shuffled = (none, Stage("shuffled"))
    lineages = [(none,), (none, tuned), (tuned,), (Stage("mae"),), (), shuffled]
    table = build_table([record("scratch", 40.0, stages=stages) for stages in lineages])
    labels = {row.method: row.labels for row in table.rows}
    assert labels == {
        "scratch": "no",
        "fcmae": "no",
        "fcmae+supervised": "IN1K",
        "supervised": "IN1K",
        "mae": "unknown",
        "fcmae+shuffled": "no",
    }
    head, _, *lines = to_markdown(table).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:4]] == [
        "Method",
        "Backbone",
        "Labels before transfer",
    ]
    assert [line.split("|")[3].strip() for line in lines[:6]] == [r.labels for r in table.rows]
    rows = list(csv.DictReader(to_csv(table).splitlines()))
    assert {row["method"]: row["labels"] for row in rows} == labels
    plain = build_table([record("scratch", 40.0), record("x", 41.0, stages=(none,))])
    assert "Labels" not in to_markdown(plain)


def test_csv_keeps_every_digit():
    assert str(100 / 3) in to_csv(build_table([record("fcmae", 100 / 3)]))


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "a|b",
    "a\\|b",
    "two\nlines\n\n| a | b |",
    "[x](javascript:alert(1))",
    "\\[x](y)",
    "![x](http://x/y.png)",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1+1",
    "@SUM(A1)",
    " \t=1",
    "[2cm]",
    "*",
    "a & b % $x$ #1 {~^}_",
    "\\input{file} \\\\ x",
)


def hostile_table(name):
    """The same text as pretraining data, labels, backbone, argument, note, one of two datasets."""
    return build_table([hostile_record(name), record("fcmae", 1.0)])


def hostile_record(name):
    stages = (Stage("fcmae", data=name, labels=True),)
    return record(
        "fcmae",
        1.5,
        stages=stages,
        backbone=name,
        dataset=name,
        backbone_args={name: name},
        notes=[name],
    )


def shown(text):
    """Text as every format shows it: on one line."""
    return " ".join(text.split())


class Page(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = set(), []
        self.feed(text)

    def handle_starttag(self, tag, *_):
        self.elements.add(tag)

    def handle_data(self, data):
        self.texts.append(data.strip())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_html(name):
    page = Page(to_html(hostile_table(name)))
    assert page.elements == {"table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert any(text.startswith(f"{shown(name)}: FCMAE") for text in page.texts)  # a run's note
    assert any(f" = {shown(name)}(" in text for text in page.texts)  # a note


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_markdown(name):
    tokens = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .parse(to_markdown(hostile_table(name)))
    )
    inline = [token for token in tokens if token.type == "inline"]
    kinds = {token.type for token in tokens} | {c.type for t in inline for c in t.children}
    assert not any(kind.startswith(("html", "link", "image", "heading")) for kind in kinds)
    assert sum(token.type == "tr_open" for token in tokens) == 3
    assert sum(token.type == "td_open" for token in tokens) == 2 * (3 + 4 * 2)
    texts = ["".join(child.content for child in token.children) for token in inline]
    name, texts = (re.sub("[*_]", "", str(x)) for x in (shown(name), "\n".join(texts)))
    assert f" = {name}(" in texts  # a note, where stars and underscores may be emphasis


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_latex(name):
    text, notes = to_latex(hostile_table(name)).split("\\bottomrule")
    rows = text.splitlines()[2:]  # between the rules of the table
    assert len(rows) == 1 + 1 + 2  # header, rule, rows
    for row in (rows[0], *rows[2:]):
        cells = re.split(r"(?<!\\)&", row.removesuffix("\\\\"))
        assert len(cells) == 3 + 4 * 2
        assert not row.lstrip().startswith(("[", "*"))
        assert_escaped(row)
    items = [line for line in notes.splitlines() if line.startswith("\\item")]
    assert len(items) == notes.count("\n") - 4
    for item in items:
        assert_escaped(item.removeprefix("\\item "))


def assert_escaped(text):
    known = r"\\(textbackslash|textasciitilde|\^)\{\}|\\ensuremath\{[<>]\}|^ *\{\}"
    assert not re.search(r"(?<!\\)[$#%_^~{}]|\\[a-z]", re.sub(known, "", text))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_no_formula_in_csv(name):
    rows = list(csv.reader(io.StringIO(to_csv(hostile_table(name)))))
    assert {len(row) for row in rows} == {len(CSV_HEADER)}
    assert len(rows) == 1 + 2 * 2
    for row in rows[1:]:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row[:9])
        assert not row[-1].startswith(("=", "+", "-", "@", "\t"))
    assert any(row[4].removeprefix("'") == shown(name) for row in rows)  # the labels
    assert any(row[6].removeprefix("'") == shown(name) for row in rows)  # the dataset
    assert any(row[-1].removeprefix("'") == shown(name) for row in rows)  # the note


def test_numbers_in_csv_stay_numbers():
    table = build_table([record("scratch", 40.0), record("fcmae", 39.5)])
    row = next(
        row for row in csv.DictReader(io.StringIO(to_csv(table))) if row["method"] == "fcmae"
    )
    assert (float(row["mean"]), float(row["delta_from_scratch"])) == (39.5, -0.5)


def test_the_page_of_hostile_records_has_no_markup_of_theirs(tmp_path):
    runs = [tmp_path / f"run{i}" for i in range(len(HOSTILE))]
    for run, name in zip(runs, HOSTILE, strict=True):
        run.mkdir()
        write_result(hostile_record(name), run)
        (run / "predictions.png").write_bytes(b"")  # cannot be read, so it is left out
    (tmp_path / "published.json").write_text("[]")
    write_report(runs, tmp_path / "out", tmp_path / "published.json")
    page = (tmp_path / "out" / "report.html").read_text()
    assert Page(page).elements <= {
        "html",
        "head",
        "body",
        "meta",
        "title",
        "style",
        "header",
        "main",
        "nav",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "a",
        "div",
        "dl",
        "dt",
        "dd",
        "small",
        "input",
        "label",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "button",
        "ul",
        "li",
        "code",
        "footer",
        "script",
        "fieldset",
        "legend",
        "output",
        "details",
        "summary",
        "span",
        "i",
        "dialog",
        "form",
    }
    assert page.count("<script") == 1


def test_a_page_shows_the_table_between_its_marks(tmp_path):
    table = build_table([record("scratch", 40.0), record("spark", 41.0)])
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(page, table)
    once = page.read_text()
    assert once == f"before\n{BEGIN}\n\n{grid_to_markdown(table)}\n{END}\nafter\n"
    put_into(page, table)
    assert page.read_text() == once
    page.write_text("no marks")
    with pytest.raises(ValueError, match=r"page.md needs a line <!-- table: begin -->"):
        put_into(page, table)
    assert page.read_text() == "no marks"
