"""Stages of training: what they may hold, and what makes two lineages one."""

import json

import pytest

from pretrain.files.lineage import (
    Stage,
    kind_of,
    method_of,
    parse_stages,
    pretraining_seeds,
    read_stages,
    stages_of_method,
    write_stages,
)

FCMAE = Stage("fcmae", data="IN1K", labels=False, epochs=800, input_size=224, seed=0)
TUNED = Stage("supervised", data="IN1K", labels=True, epochs=100, started_from="0f" * 32)


def test_stages_are_json_and_back():
    text = json.dumps(write_stages((FCMAE, TUNED)))
    assert parse_stages(text) == (FCMAE, TUNED)
    assert "steps" not in text  # what is not known is left out
    assert str(FCMAE) == "fcmae (IN1K, 800 epochs, 224 px)"


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"method": "Fine Tuned"}, "short name"),
        ({"method": "a+b"}, "short name"),
        ({"data": "IN1K"}, "not a stage.*method"),
        ({"method": "mae", "epoch": 3}, "not a stage.*epochs"),
        ({"method": "mae", "epochs": -1}, "at least 0"),
        ({"method": "mae", "steps": True}, "must be a number"),
        ({"method": "mae", "epochs": "800"}, "must be a number"),
        ({"method": "mae", "labels": "no"}, "labels as true or false"),
        ({"method": "mae", "started_from": "abc"}, "SHA-256"),
        ("mae", "not a stage"),
    ],
)
def test_what_is_not_a_stage_is_refused(stage, told):
    with pytest.raises(ValueError, match=told):
        read_stages([stage])


@pytest.mark.parametrize("text", ['{"method": "mae"}', '"mae"', "3", "spark, then labels"])
def test_what_is_not_a_list_of_stages_is_refused(text):
    with pytest.raises(ValueError, match="stages must be a"):
        parse_stages(text)


def test_a_method_names_every_stage():
    assert method_of(()) == "scratch"
    assert method_of((FCMAE, TUNED)) == "fcmae+supervised"
    assert [s.labels for s in stages_of_method("fcmae+supervised")] == [False, True]
    assert stages_of_method("unknown")[0].labels is None


def test_seeds_and_files_do_not_make_another_lineage():
    again = Stage("fcmae", data="IN1K", labels=False, epochs=800, input_size=224, seed=1)
    assert kind_of((FCMAE,)) == kind_of((again,))
    assert kind_of((FCMAE,)) != kind_of((FCMAE, TUNED))
    assert pretraining_seeds((FCMAE, TUNED)) == (0, None)
