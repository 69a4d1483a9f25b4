"""The k-NN that a pretraining is watched by: that of tools/probe.py on the last layer."""

import pytest

from tests.transfer.classification.conftest import draw_tree
from transfer.classification.knn_probe import METRIC, knn_probe
from transfer.classification.probe import probe
from transfer.classification.probe_config import probing


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return draw_tree(tmp_path_factory.mktemp("many"), train=20, val=8)


def test_its_figure_is_the_probes(many, encoder, tmp_path):
    found = knn_probe(many, 32, "cpu", 0)(encoder)
    words = ["input_size=32", "epochs=1", "device=cpu", "workers=0", "layers=('res5',)"]
    known = probe(str(encoder), many, tmp_path / "out", probing(words))
    assert found == {METRIC: pytest.approx(known.metrics["knn_top1"])}
    assert found[METRIC] > 40  # of three classes


def test_data_are_refused_before_a_training_begins(tmp_path):
    with pytest.raises(FileNotFoundError, match="no train images"):
        knn_probe(tmp_path, 32, "cpu", 0)
