"""Records -> table: means, differences from scratch, notes, published figures."""

import pytest

from transfer.results.published import beside_published
from transfer.results.record import Cost, Dataset, Environment, Result, protocol_hash
from transfer.results.table import build_table, to_csv, to_markdown


def record(
    method, value, *, backbone="convnextv2_base", seed=0, protocol=None, dataset="coco_2017"
):
    protocol = protocol or {"max_iter": 100}
    return Result(
        task="detection",
        method=method,
        backbone=backbone,
        weights=None if method == "scratch" else {"sha256": "0" * 64},
        dataset=Dataset(name=dataset, train_images=2, val_images=1, classes=["a"]),
        protocol=protocol,
        protocol_hash=protocol_hash(protocol),
        seed=seed,
        metrics={"AP_box": value, "AP_mask": value / 2},
        evaluator="test",
        cost=Cost(hours=0.1),
        environment=Environment(
            suite_version="0", commit="c", dirty=False, python="3", packages={}, device="cpu"
        ),
    )


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
    with pytest.raises(ValueError, match="2 protocols"):
        build_table([record("fcmae", 1.0), record("fcmae", 2.0, protocol={"max_iter": 7})])


def test_datasets_get_columns_of_their_own():
    table = build_table([record("fcmae", 1.0), record("fcmae", 2.0, dataset="nuclei")])
    assert [c.title for c in table.columns if c.metric == "AP_box"] == [
        "AP_box (coco_2017)",
        "AP_box (nuclei)",
    ]


def test_published_figures_stand_beside_their_runs_only():
    figure = {
        "task": "coco_mask_rcnn", "method": "FCMAE", "backbone": "ConvNeXt V2-B",
        "metric": "AP_box", "value": 52.9, "schedule": "3x", "source": "Table 6",
    }  # fmt: skip
    text = beside_published(build_table([record("fcmae", 50.0)]), [figure])
    assert "52.9" in text
    assert "-2.9" in text
    assert "Table 6" in text
    assert beside_published(build_table([record("fcmae", 50.0, dataset="nuclei")]), [figure]) == ""


def test_arguments_of_a_backbone_are_a_note():
    small = record("fcmae", 1.0).model_copy(update={"backbone_args": {"depths": [1, 1]}})
    other = record("fcmae", 1.0).model_copy(update={"backbone_args": {"depths": [2, 2]}})
    table = build_table([small, other])
    assert table.notes[1] == "convnextv2_base** = convnextv2_base(depths=[2, 2])"
    assert table.notes[0] == "convnextv2_base* = convnextv2_base(depths=[1, 1])"
    assert "| FCMAE    | convnextv2_base*  |" in to_markdown(table)


def test_csv_keeps_every_digit():
    assert str(100 / 3) in to_csv(build_table([record("fcmae", 100 / 3)]))
