"""Classifiers as released: the authors' logits, their classes, their test, and a record."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from pretrain.files.read import WeightsError
from tools.golden import check_case, read_case
from tools.golden.classifiers import build, content_of, read, settings
from transfer.classification import released
from transfer.classification.config import CONFIG_FOLDER, ConfigError, load_config
from transfer.classification.protocol import protocols_of
from transfer.results.record import read_result
from transfer.results.table import build_table
from transfer.suites.settings import finetune_settings, task_settings
from transfer.weights.classifiers import read_classifier, synsets
from transfer.weights.releases import classifiers, releases

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = {
    "classifier_beit": "beit",
    "classifier_convnext": "convnext",
    "classifier_convnextv2": "convnext",
    "classifier_mae": "mae",
    "classifier_spark_convnext": "spark",
    "classifier_spark_resnet": "spark",
}
TINY = {  # timm's own nets, small: what is saved has timm's names
    "convnext_tiny": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]},
    "resnet18": {"channels": [8, 16, 24, 32]},
    "beit_base_patch16_224": {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.1},
    "deit3_base_patch16_224": {"embed_dim": 64, "depth": 2, "num_heads": 1},
}


@pytest.mark.parametrize("name", CASES)
def test_the_authors_logits(name, tmp_path):
    case = read_case(GOLDEN / name)
    checks = check_case(case)
    assert [check.name for check in checks] == ["logits"]
    assert all(check.passed for check in checks), checks
    assert read(case, tmp_path / "file.pth").family == CASES[name]


@pytest.mark.parametrize("arch", TINY)
def test_timms_own_files(arch, tmp_path):
    torch.manual_seed(0)
    net = timm.create_model(arch, num_classes=7, **TINY[arch]).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
    save_file(net.state_dict(), tmp_path / "file.safetensors")
    file = read_classifier(tmp_path / "file.safetensors")
    size = file.encoder.identity.input_size
    model = released.build_released(file, settings(file, size), list("abcdefg")).model
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(model(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.fixture
def case():
    return read_case(GOLDEN / "classifier_convnext", dtype=torch.float32)


def widened(case, count):
    """The case with `count` classes: those of its seven, again and again."""
    rows = torch.arange(count) % 7
    more = {n: case.weights[n][rows].clone() for n in ("head.weight", "head.bias")}
    more["head.bias"] = torch.arange(count) / count
    return replace(case, weights={**case.weights, **more})


def test_outputs_of_22k_are_those_of_1k(case, tmp_path):
    file = read(widened(case, 21841), tmp_path / "file.pth")
    weight, bias = file.last_layer(synsets(1000))
    place = synsets(21841).index("n01440764")
    assert bias[0] == file.bias[place]
    assert torch.equal(weight[0], file.weight[place])
    missing = [name for name, b in zip(synsets(1000), bias, strict=True) if b == -torch.inf]
    assert missing == ["n04399382"]


def test_outputs_that_nothing_names_are_in_the_datas_order(case, tmp_path):
    file = read(case, tmp_path / "file.pth")
    assert file.class_names is None
    assert file.last_layer(list("abcdefg"))[0] is file.weight
    with pytest.raises(WeightsError, match="has 7 classes, the data has 3"):
        file.last_layer(["n01440764", "n01443537", "n01484850"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("head.bias"), "is no classifier of one last layer"),
        (lambda w: (w.pop("head.bias"), w.pop("head.weight")), "it has none"),
        (lambda w: w.update(mask_token=torch.zeros(1)), "left over are mask_token"),
        (lambda w: w.update({"head.weight": torch.zeros(7, 9)}), "does not fit"),
        (lambda w: w.pop("norm.weight"), "does not fit"),
    ],
)
def test_every_tensor_has_a_place(case, tmp_path, change, told):
    changed = replace(case, weights=dict(case.weights))
    change(changed.weights)
    with pytest.raises(WeightsError, match=told) as caught:
        build(changed, tmp_path / "file.pth")
    assert "\n" not in str(caught.value)


def test_sparks_averaged_weights_are_those_of_its_ema_file(tmp_path):
    case = read_case(GOLDEN / "classifier_spark_resnet")
    content = content_of(case)
    content["ema"] = {n: t + 1 if n == "fc.bias" else t for n, t in case.weights.items()}
    for name in ("resnet50_1kfinetuned_best.pth", "resnet50_1kfinetuned_best_ema.pth"):
        torch.save(content, tmp_path / name)
    plain, averaged = (read_classifier(tmp_path / p.name) for p in sorted(tmp_path.iterdir()))
    assert torch.equal(averaged.bias, plain.bias + 1)


@pytest.mark.parametrize(
    ("family", "size", "expected"),
    [
        ("convnext", 224, (0.875, False)),
        ("convnext", 384, (0.875, True)),
        ("beit", 224, (0.875, False)),
        ("beitv2", 384, (1.0, False)),
        ("mae", 448, (1.0, False)),
        ("spark", 224, (0.95, False)),
        ("spark", 384, (0.95, True)),
    ],
)
def test_the_test_is_the_authors(family, size, expected):
    images = released.TESTS[family].images(size)
    assert (images.crop_pct, images.squash) == expected
    assert (images.input_size, images.interpolation) == (size, "bicubic")


def test_a_release_may_have_a_test_of_its_own(tmp_path):
    file = read(read_case(GOLDEN / "classifier_spark_resnet"), tmp_path / "file.pth")
    images = released.released_config(file, classifiers()["torchvision_resnet50"]).images
    assert (images.crop_pct, images.interpolation) == (0.875, "bilinear")
    assert released.released_config(file, None, ["crop_pct=0.9"]).images.crop_pct == 0.9
    with pytest.raises(ConfigError, match="the network is the file's"):
        released.released_config(file, None, ["pool=token"])


def test_the_manifest_is_whole():
    known = releases()
    for name, row in classifiers().items():
        assert known[name].stages[-1].data == "IN1K", name
        assert known[name].stages[-1].labels, name
        assert 60 < row.published["top1"] < row.published.get("top5", 100), name


@pytest.fixture
def scenes(tmp_path):
    """Six validation images of three of ImageNet's classes."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("n01440764", "n01443537", "n15075141")):
        folder = tmp_path / "data" / "val" / name
        folder.mkdir(parents=True)
        for i in range(2):
            pixels = draw.integers(0, 256, (80 + 10 * number, 72, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "data"


def test_an_evaluation_ends_in_a_record_that_tables_read(case, scenes, tmp_path):
    path = tmp_path / "convnext_tiny_22k_1k_224.pth"
    file = read(widened(case, 1000), path)
    config = settings(file, 64)
    published = classifiers()["convnext_tiny_22k_1k_224"]
    found = released.evaluate_released(file, config, scenes, tmp_path / "out", published)
    record = read_result(tmp_path / "out")
    assert record.metrics == found["metrics"]
    assert (record.task, record.method, record.backbone) == (
        "classification",
        "supervised",
        "convnext_tiny",
    )
    assert [str(stage) for stage in record.stages] == ["supervised (IN22K, 90 epochs, 224 px)"]
    assert record.train["framework"] == "released"
    assert record.notes[0].startswith("released by its authors (facebookresearch/ConvNeXt 048efce")
    assert (record.dataset.name, len(record.dataset.classes)) == ("imagenet_1k", 1000)
    assert build_table([record]).rows[0].method == "supervised"
    assert found["class_order"] == "the folders' WordNet IDs"
    assert found["metrics"]["top1"] == pytest.approx(by_hand(file, scenes))
    with pytest.raises(ValueError, match="is there"):
        released.evaluate_released(file, config, scenes, tmp_path / "out", published)


def by_hand(file, data):
    """Percent of the images whose best of 1,000 logits is their folder's."""
    from torchvision import transforms

    model = released.build_released(file, settings(file, 64), synsets(1000)).model
    steps = [transforms.Resize(73, interpolation=transforms.InterpolationMode.BICUBIC)]
    steps += [transforms.CenterCrop(64), transforms.ToTensor()]
    steps += [transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    prepare, right = transforms.Compose(steps), []
    for path in sorted(data.rglob("*.png")):
        with torch.no_grad():
            best = model(prepare(Image.open(path).convert("RGB"))[None]).argmax()
        right.append(synsets(1000)[best] == path.parent.name)
    return 100 * np.mean(right)


def test_the_setting_of_the_interpolation_changes_no_older_protocol_or_step():
    config = CONFIG_FOLDER / "mae_base.py"
    loaded = load_config(config)
    settings = protocols_of(loaded, "fp32", {}, {})
    assert "interpolation" not in settings.train["images"]
    assert settings.eval["interpolation"] == "bicubic"
    assert "interpolation" not in finetune_settings(config, ())["images"]
    bilinear = ("interpolation=bilinear",)
    assert finetune_settings(config, bilinear)["images"]["interpolation"] == "bilinear"
    probed = task_settings("probe", config, (), None)[0]
    assert "interpolation" not in probed["images"]
    changed = protocols_of(load_config(config, bilinear), "fp32", {}, {})
    assert changed.train == settings.train
    assert changed.eval["interpolation"] == "bilinear"
