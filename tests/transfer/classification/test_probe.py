"""The probe: frozen features, a linear classifier and a k-NN of them, and its record."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.transfer.classification.conftest import NET, draw_tree
from transfer.classification.config import ConfigError
from transfer.classification.frozen import frozen_encoder, vectors
from transfer.classification.probe import (
    Labelled,
    applied,
    held_out,
    k_nearest,
    knn_votes,
    linear_probe,
    probe,
    standardised,
)
from transfer.classification.probe_config import Probing, probing
from transfer.datasets.class_split import open_split
from transfer.results.record import read_result
from transfer.results.table import build_table

CPU = torch.device("cpu")
QUICK = ["input_size=32", "epochs=20", "batch_size=8", "device=cpu", "workers=0"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return draw_tree(tmp_path_factory.mktemp("many"), train=20, val=8)


def test_ends_in_a_record_that_a_table_takes(many, encoder, tmp_path):
    result = probe(str(encoder), many, tmp_path / "out", probing([*QUICK, "dataset=toys"]))
    assert read_result(tmp_path / "out").metrics == result.metrics
    assert set(result.metrics) == {"linear_top1", "knn_top1"}
    assert (result.task, result.method, result.dataset.train_images) == ("probe", "spark", 60)
    assert result.notes[0].startswith("linear: ")
    assert result.train["frozen"] is True
    table = build_table([result])
    assert [column.metric for column in table.columns] == ["linear_top1", "knn_top1"]
    with pytest.raises(ValueError, match="is not empty"):
        probe(str(encoder), many, tmp_path / "out", probing(QUICK))


def test_a_random_encoder_is_the_control(many, tmp_path):
    words = [*QUICK, "arch=resnet26", f"arch_args={NET}"]
    one = probe("none", many, tmp_path / "one", probing(words))
    again = probe("none", many, tmp_path / "again", probing(words))
    other = probe("none", many, tmp_path / "other", probing([*words, "seed=1"]))
    assert (one.method, one.weights) == ("scratch", None)
    assert one.metrics == again.metrics
    assert one.train_hash == other.train_hash
    with pytest.raises(ValueError, match="weights=none needs arch"):
        probe("none", many, tmp_path / "x", probing(QUICK))


def test_features_are_timms_maps_averaged(tree, encoder):
    config = probing(QUICK)
    frozen = frozen_encoder(str(encoder), config)
    found = vectors(frozen, open_split(tree, "val"), config, CPU)
    assert {layer: x.shape for layer, x in found.items()} == {
        "res2": (15, 32),
        "res3": (15, 32),
        "res4": (15, 32),
        "res5": (15, 32),
        "all": (15, 128),
    }
    assert not any(p.requires_grad for p in frozen.features.encoder.parameters())
    again = vectors(frozen, open_split(tree, "val"), config, CPU)
    assert torch.equal(found["all"], again["all"])
    whole, mean_std = standardised(found)
    assert torch.allclose(whole["res4"].mean(0), torch.zeros(32), atol=1e-4)
    assert torch.equal(applied(found, mean_std)["res4"], whole["res4"])


def test_a_plain_vit_is_probed_at_the_size_that_is_asked_for(tree):
    net = {"embed_dim": 16, "depth": 4, "num_heads": 2}
    config = probing([*QUICK, "arch=beit_base_patch16_224", f"arch_args={net}"])
    frozen = frozen_encoder("none", config)
    assert frozen.features.stored_grid == (2, 2)
    found = vectors(frozen, open_split(tree, "val"), config, CPU)
    assert found["all"].shape == (15, 64)
    assert not torch.equal(found["res2"], found["res5"])  # four blocks of one stride


def blobs(count: int, seed: int) -> Labelled:
    """One layer that tells three classes apart and one that is noise."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 8, generator=draws)
    told = noise + 3 * F.one_hot(labels, 8).float()
    return Labelled({"res2": torch.randn(count, 8, generator=draws), "res5": told}, labels)


def test_held_out_images_choose_the_layer_that_tells():
    train, val = blobs(300, 0), blobs(90, 1)
    config = Probing(epochs=20, batch_size=64)
    linear = linear_probe(train, val, 3, config, CPU)
    nearest = k_nearest(train, val, 3, config, CPU)
    assert linear.chosen.startswith("linear: res5")
    assert nearest.chosen == "k-NN: res5"
    assert linear.metrics["linear_top1"] > 90
    assert nearest.metrics["knn_top1"] > 90
    wrong = linear_probe(train, val._replace(labels=(val.labels + 1) % 3), 3, config, CPU)
    assert wrong.metrics["linear_top1"] < 10  # the validation labels decide nothing but the figure


def test_votes_are_dinos():
    """Against its formula, one query at a time."""
    (train, labels), (val, _) = blobs(40, 2), blobs(5, 3)
    config = Probing(neighbours=7, temperature=0.1)
    votes = knn_votes(train["res5"], labels, val["res5"], 3, config)
    for row, query in zip(votes, val["res5"], strict=True):
        likeness = F.cosine_similarity(query[None], train["res5"])
        order = likeness.argsort(descending=True)[:7]
        expected = [0.0, 0.0, 0.0]
        for i in order.tolist():
            expected[int(labels[i])] += math.exp(likeness[i].item() / 0.1)
        assert row.tolist() == pytest.approx(expected, rel=1e-4)


def test_what_is_held_out_is_not_learnt_from():
    held, kept = held_out(50, Probing(held_out=0.2))
    assert sorted([*held.tolist(), *kept.tolist()]) == list(range(50))
    assert len(held) == 10
    with pytest.raises(ValueError, match="leaves none"):
        held_out(3, Probing(held_out=0.1))


def test_a_setting_that_is_none_is_told():
    with pytest.raises(ConfigError, match="did you mean 'neighbours'"):
        probing(["neighbors=3"])
