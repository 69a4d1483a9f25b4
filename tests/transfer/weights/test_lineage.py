"""Who tells how weights were trained; what the tensors cannot tell is asked for."""

import pytest

from pretrain.files.lineage import Stage, method_of, parse_stages
from pretrain.files.read import WeightsError
from tests.transfer.weights.test_sources import LAYOUTS, write
from transfer.weights import features_for, read_weights
from transfer.weights.lineage import merged
from transfer.weights.releases import releases

# layout of the tests -> the method that its tensors prove, or None
TOLD = {
    "spark_resnet_full": "spark",
    "spark_resnet_encoder": None,  # as any ResNet without classifier
    "timm_vit": None,  # MAE, DINO or labels
}


@pytest.mark.parametrize("layout", sorted(TOLD))
def test_only_tensors_that_prove_a_method_tell_it(layout, tmp_path):
    path = write(LAYOUTS[layout](), tmp_path)
    assert read_weights(path).identity.method == (TOLD[layout] or "unknown")


def test_unknown_training_is_refused_with_what_to_say(tmp_path):
    path = write(LAYOUTS["spark_resnet_encoder"](), tmp_path)
    with pytest.raises(WeightsError, match=r"do not tell how.*--method NAME.*--stages JSON"):
        features_for(path)


def test_the_users_word_counts(tmp_path):
    path = write(LAYOUTS["spark_resnet_encoder"](), tmp_path)
    stages = parse_stages('[{"method": "dino"}, {"method": "supervised", "labels": true}]')
    weights = read_weights(path, stages=stages)
    assert weights.identity.method == "dino+supervised"
    assert weights.identity.extra["stages_told_by"] == "the user"


def test_fcmae_fine_tuned_on_labels_is_not_supervised_training():
    release = releases()["convnextv2_base_1k"]
    assert release.method == "fcmae+supervised"
    assert [stage.labels for stage in release.stages] == [False, True]
    beit = releases()
    assert beit["beit_base_pt22k"].method != beit["beit_base_pt22k_ft22k"].method


def test_a_released_file_is_known_by_its_name(tmp_path):
    path = write(LAYOUTS["spark_resnet_encoder"](), tmp_path)
    known = path.rename(tmp_path / "resnet50_1kpretrained_timm_style.pth")
    identity = read_weights(known).identity
    assert identity.stages == releases()["spark_resnet50"].stages
    assert "spark_resnet50" in identity.extra["stages_told_by"]


@pytest.mark.parametrize("name", sorted(releases()))
def test_every_release_states_its_stages(name):
    release = releases()[name]
    assert release.method == method_of(release.stages)
    for stage in release.stages:
        assert stage.data
        assert stage.labels == (stage.method in ("supervised", "deit"))


def test_method_and_stages_must_agree():
    stages = (Stage("mae"), Stage("supervised"))
    assert merged(None, stages) == stages
    assert merged("mae+supervised", stages) == stages
    assert [s.method for s in merged("mae+supervised", None)] == ["mae", "supervised"]
    assert merged(None, None) is None
    with pytest.raises(WeightsError, match="contradicts --stages"):
        merged("mae", stages)
    with pytest.raises(WeightsError, match="expected names as spark"):
        merged("Fine tuned", None)
