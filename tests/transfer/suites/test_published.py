"""The published table of a suite: every row stands there, run or not."""

import json

import pytest

from tests.transfer.results.test_published import synthetic
from transfer.results.published import lines_to_markdown
from transfer.suites.published import figures_of, lines_of
from transfer.suites.suite import Cell, Released

TABLE_6 = "ConvNeXt V2 paper (arXiv 2301.00808) Table 6"


CELLS = (Cell("configs/detection/convnextv2_base_3x.py", Released("fcmae_convnextv2_base")),)


def test_every_row_of_the_table_is_there_when_nothing_has_run():
    figures = figures_of([TABLE_6])
    lines = lines_of(figures, CELLS, [])
    assert len(lines) == len(figures) == 45  # 42 and three quoted from SimMIM
    assert all(line.ours is None for line in lines)
    remarks = {line.figure["backbone"]: line.remark for line in lines}
    mine = [
        line for line in lines if (line.figure["value"], line.figure["metric"]) == (52.9, "AP_box")
    ]
    assert [line.remark for line in mine] == [
        "not run (detection/convnextv2_base_3x/fcmae_convnextv2_base)"
    ]
    assert remarks["ConvNeXt V2-H"] == "the suite has no cell for it"
    assert sum("Swin" in line.remark for line in lines) == 3
    text = lines_to_markdown(lines)
    assert "| FCMAE" in text
    assert "52.9" in text


def test_ours_stands_beside_the_published_figure():
    figures = figures_of([TABLE_6])
    (figure,) = (f for f in figures if (f["value"], f["metric"]) == (52.9, "AP_box"))
    runs = [synthetic(figure["match"], value, seed=seed) for seed, value in enumerate((52.0, 53.0))]
    (line,) = (line for line in lines_of(figures, CELLS, runs) if line.figure is figure)
    assert (line.ours, line.remark) == (52.5, "")
    assert "-0.4" in lines_to_markdown([line])


def test_a_run_of_another_config_does_not_stand_there():
    figures = figures_of([TABLE_6])
    (figure,) = (f for f in figures if (f["value"], f["metric"]) == (52.9, "AP_box"))
    other = {"name": "convnextv2_large_3x", "train": {}, "eval": {}}
    lines = lines_of(figures, CELLS, [synthetic(figure["match"], 52.0, config=other)])
    assert all(line.ours is None for line in lines)


def test_a_figure_whose_settings_are_not_shipped_has_no_cell():
    figures = figures_of(["ConvNeXt V2 paper (arXiv 2301.00808) Table 14"])
    lines = lines_of(figures, CELLS, [])
    assert {line.remark for line in lines} == {"the suite has no cell for it"}
    assert not all("config" in line.figure["match"] for line in lines)


def test_an_accuracy_has_its_place_beside_the_published_one():
    tuned = Cell("configs/classification/fcmae_convnextv2_base.py", CELLS[0].weights)
    probed = Cell("probe", CELLS[0].weights)
    figures = figures_of(["ConvNeXt V2 paper (arXiv 2301.00808) Table 14"])
    (line,) = (
        line for line in lines_of(figures, (probed, tuned), []) if line.remark.startswith("not run")
    )
    assert line.figure["match"]["arch"] == "convnextv2_base"
    assert "classification/fcmae_convnextv2_base/fcmae_convnextv2_base" in line.remark


def test_a_source_without_figures_is_refused():
    with pytest.raises(ValueError, match="has no figure of 'Table 99'"):
        figures_of(["Table 99"])


def test_a_number_of_a_table_is_not_the_beginning_of_another(tmp_path):
    file = tmp_path / "published.json"
    file.write_text(json.dumps([{"source": "Table 1"}, {"source": "Table 14"}]))
    assert figures_of(["Table 1"], file) == [{"source": "Table 1"}]
