"""What shares a row, a column, a cell; and what it is compared with."""

import html
import re
from pathlib import Path

import pytest

from pretrain.files.lineage import Stage
from tests.transfer.results.test_table import record
from transfer.results.report.page import render
from transfer.results.report.runs import Run
from transfer.results.table import build_table, to_csv, to_html, to_latex, to_markdown


def pretrained(value, *, seed=0, sha="a", pretraining_seed=None, **changes):
    """A run of FCMAE weights; `pretraining_seed` is the one that the encoder file records."""
    stages = (Stage("fcmae", data="IN1K", labels=False, epochs=800, seed=pretraining_seed),)
    return record("fcmae", value, stages=stages, sha=sha, seed=seed, **changes)


def cells_of(table, method, metric="AP_box"):
    (column,) = [c for c in table.columns if c.metric == metric]
    return [row.cells[column] for row in table.rows if row.method == method]


def test_two_encoders_never_share_a_cell():
    table = build_table([pretrained(50.0, sha="a"), pretrained(52.0, sha="b")])
    assert [(cell.mean, cell.n) for cell in cells_of(table, "fcmae")] == [(50.0, 1), (52.0, 1)]
    assert {row.label for row in table.rows} == {
        "convnextv2_base [weights aaaaaaaa]",
        "convnextv2_base [weights bbbbbbbb]",
    }


def test_declared_seeds_of_one_pretraining_share_a_cell():
    first, second = (
        pretrained(50.0, sha="a", pretraining_seed=0),
        pretrained(52.0, sha="b", pretraining_seed=1),
    )
    (cell,) = cells_of(build_table([first, second]), "fcmae")
    assert (cell.mean, cell.n) == (51.0, 2)
    assert "mean over 2 pretrainings, declared as seeds 0, 1 of one recipe" in cell.notes[0]
    twins = build_table([first, pretrained(52.0, sha="b", pretraining_seed=0)])
    assert len(cells_of(twins, "fcmae")) == 2  # the same seed, and yet other weights


def test_other_pretrainings_never_share_a_cell():
    longer = Stage("fcmae", data="IN1K", labels=False, epochs=1600)
    table = build_table([pretrained(50.0), record("fcmae", 52.0, stages=(longer,), sha="b")])
    assert len(cells_of(table, "fcmae")) == 2
    tuned = (longer, Stage("supervised", data="IN1K", labels=True))
    table = build_table([record("fcmae", 52.0, stages=s) for s in ((longer,), tuned)])
    assert sorted(row.method for row in table.rows) == ["fcmae", "fcmae+supervised"]


def test_other_settings_of_a_pretraining_never_share_a_cell():
    def run(value, sha, lr, seed):
        identity = {"recipe": {"lr": lr, "seed": seed, "run": {"workers": seed}}}
        weights = {"sha256": sha * 64, "identity": identity}
        return pretrained(value, pretraining_seed=seed, weights=weights)

    assert (
        len(cells_of(build_table([run(1.0, "a", 1e-3, 0), run(2.0, "b", 1e-3, 1)]), "fcmae")) == 1
    )
    assert (
        len(cells_of(build_table([run(1.0, "a", 1e-3, 0), run(2.0, "b", 3e-3, 1)]), "fcmae")) == 2
    )


def test_the_same_seed_twice_counts_once():
    table = build_table([pretrained(50.0), pretrained(52.0)])
    (cell,) = cells_of(table, "fcmae")
    assert (cell.mean, cell.n, cell.sd) == (51.0, 1, None)
    assert any("seed 0 ran 2 times, counted once" in note for note in table.notes)


def test_a_copied_record_counts_once():
    table = build_table([pretrained(50.0), pretrained(50.0), pretrained(52.0, seed=1)])
    (cell,) = cells_of(table, "fcmae")
    assert (cell.mean, cell.n) == (51.0, 2)
    assert any("1 of 3 records are copies" in note for note in table.notes)


def test_scratch_on_other_data_is_not_a_baseline():
    data = {"lr": 1.0, "data": {"images": 100, "digest": "x"}}
    less = {"lr": 1.0, "data": {"images": 10, "digest": "y"}}
    table = build_table([pretrained(50.0, protocol=data), record("scratch", 25.0, protocol=less)])
    assert cells_of(table, "fcmae")[0].delta is None
    assert any("they differ in data.digest, data.images" in note for note in table.notes)


def test_scratch_may_have_its_own_rate_and_the_best_counts():
    tuned = [
        {"lr": lr, "layer_decay": decay} for lr, decay in ((1e-4, 0.7), (4e-4, 1.0), (1.0, 1.0))
    ]
    scratch = [
        record("scratch", v, protocol=p) for v, p in zip((40.0, 46.0, 3.0), tuned, strict=True)
    ]
    table = build_table([pretrained(50.0, protocol=tuned[0]), *scratch])
    (cell,) = cells_of(table, "fcmae")
    assert cell.delta == 4.0
    assert any("scratch has its own layer_decay, lr, the best of 3" in n for n in table.notes)


def test_scratch_with_fine_tunings_layer_decay_alone_is_told():
    decayed = {"lr": 1e-4, "layer_decay": 0.7}
    table = build_table(
        [pretrained(50.0, protocol=decayed), record("scratch", 40.0, protocol=decayed)]
    )
    assert cells_of(table, "fcmae")[0].delta == 10.0
    assert any("layer decay 0.7 alone" in note and "too large" in note for note in table.notes)


def test_evaluations_have_columns_of_their_own():
    views = {"tta": {"ratios": [0.5, 1.0]}}
    table = build_table([pretrained(50.0), pretrained(51.0, evaluation=views)])
    assert [(c.title, r.cells[c].mean) for r in table.rows for c in table.columns[::2]] == [
        ("AP_box (single-scale)", 50.0),
        ("AP_box (multi-scale)", 51.0),
    ]
    assert len(table.rows) == 1
    assert any("2 evaluations, differing in tta" in note for note in table.notes)


@pytest.fixture
def full():
    """Three seeds each of FCMAE, its control, labels and scratch."""
    stage = Stage("fcmae", data="IN1K", labels=False)
    control = (stage, Stage("shuffled"))
    runs = []
    for seed in range(3):
        noise = 0.1 * seed
        runs += [
            record("fcmae", 50 + noise, stages=(stage,), seed=seed, notes=["budget: quarter"]),
            record("fcmae", 47 - noise, stages=control, seed=seed, sha="b"),
            record("supervised", 49.9 + 3 * noise, seed=seed, sha="c"),
            record("scratch", 45 + noise**2, seed=seed),
        ]
    return build_table(runs)


def test_every_baseline_has_its_difference(full):
    (cell,) = cells_of(full, "fcmae")
    assert {kind: d.verdict for kind, d in cell.differences.items()} == {
        "scratch": "better",
        "control": "better",
        "supervised": "within noise",
    }
    assert all(d.paired and d.seeds_needed for d in cell.differences.values())
    assert cell.delta == cell.differences["scratch"].points
    assert not cells_of(full, "supervised")[0].differences.keys() - {"scratch"}


def test_differences_reach_markdown_and_csv(full):
    text = to_markdown(full)
    assert "## Differences" in text
    assert "better" in to_csv(full)
    assert "within noise" in text
    assert any(note.startswith("Verdicts:") for note in full.notes)


def to_page(table):
    """The report, as text."""
    text = render([Run(Path("run"), cell.records[0]) for cell in cells_of(table, "fcmae")], table)
    return html.unescape(text)


FORMATS = [to_markdown, to_csv, to_latex, to_html, to_page]


@pytest.mark.parametrize("write", FORMATS)
def test_what_a_record_says_of_its_run_reaches_every_format(write):
    environment = record("fcmae", 1.0).environment
    changes = {
        "notes": ["budget=debug: 20 steps", "SyncBN ran as BatchNorm: one process"],
        "environment": environment.model_copy(update={"dirty": True}),
        "evaluated_in": environment.model_copy(update={"dirty": None, "commit": "later"}),
    }
    same = [pretrained(50.0, **changes), pretrained(50.5, **changes)]
    text = write(build_table(same))
    told = (
        *changes["notes"],
        "made from a tree with uncommitted changes",
        "evaluated outside a git checkout",
        "trained at commit c, evaluated at later",
        "seed 0 ran 2 times, counted once",
    )
    for note in told:
        assert note in text, note


@pytest.mark.parametrize("write", FORMATS)
def test_seeds_of_pretraining_are_told_in_every_format(write):
    runs = [
        pretrained(50.0, sha="a", pretraining_seed=0),
        pretrained(52.0, sha="b", pretraining_seed=1),
    ]
    assert "mean over 2 pretrainings, declared as seeds 0, 1" in write(build_table(runs))


@pytest.mark.parametrize("write", FORMATS)
def test_verdicts_reach_every_format(write, full):
    assert "within noise" in write(full)


def test_controls_of_one_file_share_a_row_and_those_of_two_never_do():
    stage = Stage("fcmae", data="IN1K", labels=False)  # whose seed is not known
    runs = [
        record(
            "fcmae",
            value,
            seed=seed,
            sha=sha,
            stages=(stage, Stage("shuffled", seed=seed, started_from=file * 64)),
        )
        for value, seed, sha, file in [
            (40.0, 0, "1", "a"),
            (42.0, 1, "4", "a"),
            (50.0, 0, "3", "b"),
            (52.0, 1, "2", "b"),
        ]
    ]
    cells = cells_of(build_table(runs), "fcmae+shuffled")
    assert sorted((cell.mean, cell.n) for cell in cells) == [(41.0, 2), (51.0, 2)]
    assert not any("pretrainings" in note for cell in cells for note in cell.notes)


def test_a_frozen_encoder_is_compared_with_the_frozen_random_one():
    frozen = {"freeze": "backbone"}
    random = (Stage("random", labels=False, seed=0),)
    pairs = [
        (
            pretrained(50.0 + seed, protocol=frozen, seed=seed),
            record("random", 41.0, stages=random, sha="b", protocol=frozen, seed=seed),
        )
        for seed in (0, 1)
    ]
    table = build_table([*sum(pairs, ()), record("scratch", 45.0)])
    assert [cell.delta for cell in cells_of(table, "fcmae")] == [9.5]
    assert [cell.delta for cell in cells_of(table, "random")] == [None]
    told = re.sub(" +", " ", to_markdown(table))
    assert "random, frozen | +9.5" in told
    assert "so no Δ" not in told


def test_a_frozen_run_of_one_task_is_in_no_row_with_a_fine_tuned_one_of_another():
    """Were rows joined by the order of their hashes, some of these would be."""

    def segmented(value, freeze, **more):
        protocol = {"max_iters": 5, "freeze": freeze, **more}
        ade = {"task": "segmentation", "dataset": "ade20k", "metrics": {"mIoU": value}}
        return pretrained(value, protocol=protocol, **ade)

    for i in range(4):  # other hashes, another order
        runs = [segmented(60.0, "backbone", lr=i), segmented(70.0, "none", lr=i)]
        table = build_table([pretrained(50.0, protocol={"freeze": "none"}), *runs])
        found = {
            row.label: [cell.mean for cell in row.cells.values() if cell.records]
            for row in table.rows
        }
        assert found == {
            "convnextv2_base [freeze=backbone]": [60.0],
            "convnextv2_base [freeze=none]": [50.0, 25.0, 70.0],
        }


def test_a_share_of_labels_is_named_without_the_images_that_follow_from_it():
    def run(value, share, digest, **more):
        data = {"digest": digest, "images": {None: 300, 0.1: 30}[share]}
        return record("fcmae", value, protocol={"train_share": share, "data": data, **more})

    records = [run(50.0, None, "a"), run(40.0, 0.1, "b")]
    labels = {row.label for row in build_table(records).rows}
    assert labels == {f"convnextv2_base [train_share={share}]" for share in (None, 0.1)}
    other_data = build_table([*records, run(41.0, 0.1, "c")])
    assert any("data.digest=c" in row.label for row in other_data.rows)
