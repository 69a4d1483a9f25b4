"""Records of fine-tuning and probes in tables: their columns, rows and evaluations."""

from tests.transfer.results.test_table import record
from transfer.results.table import build_table

MADE = {"dataset": "imagenet_1k", "backbone": "resnet50"}


def fine_tuned(method, top1, *, px=224, sha="1", **more):
    return record(
        method,
        top1,
        task="classification",
        metrics={"top1": top1, "top5": top1 + 9},
        evaluation={"input_size": px, "crop_pct": 0.95},
        sha=sha,
        **MADE,
        **more,
    )


def test_accuracy_has_two_columns_and_a_difference_from_scratch():
    table = build_table([fine_tuned("scratch", 78.0), fine_tuned("spark", 80.5)])
    assert [column.title for column in table.columns] == ["top1", "top5"]
    (row,) = [row for row in table.rows if row.method == "spark"]
    cell = row.cells[table.columns[0]]
    assert (cell.mean, cell.delta) == (80.5, 2.5)


def test_another_size_of_test_images_is_another_column():
    table = build_table([fine_tuned("spark", 80.0), fine_tuned("spark", 82.0, px=384)])
    assert [column.title for column in table.columns] == [
        "top1 (224 px)",
        "top5 (224 px)",
        "top1 (384 px)",
        "top5 (384 px)",
    ]


def test_scratch_may_have_its_own_learning_rate():
    """It is compared with the others as in detection and segmentation."""
    own = {"optimizer": {"base_lr": 1e-3, "layer_decay": 1.0, "layer_decay_rule": "auto"}}
    theirs = {"optimizer": {"base_lr": 1e-4, "layer_decay": 0.7, "layer_decay_rule": "vit"}}
    table = build_table(
        [fine_tuned("scratch", 78.0, protocol=own), fine_tuned("spark", 80.0, protocol=theirs)]
    )
    (row,) = [row for row in table.rows if row.method == "spark"]
    assert row.cells[table.columns[0]].delta == 2.0


def test_a_probe_stands_in_the_row_of_its_encoder():
    """Beside the fine-tuning from the same weights, in columns of its own."""
    probe = record(
        "spark",
        60.0,
        task="probe",
        metrics={"linear_top1": 60.0, "knn_top1": 50.0},
        evaluation={"input_size": 224},
        sha="1",
        **MADE,
    )
    table = build_table([fine_tuned("spark", 80.0), probe])
    (row,) = table.rows
    assert {column.metric for column in row.cells} == {"top1", "top5", "linear_top1", "knn_top1"}


def test_a_fine_tuned_encoder_never_shares_a_row_with_its_source():
    first = record("spark", 40.0, backbone="resnet50", sha="1")
    second = record("spark+supervised", 42.0, backbone="resnet50", sha="2")
    assert len(build_table([first, second]).rows) == 2
