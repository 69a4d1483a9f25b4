"""Every published figure that can be reached is reached: one by one, by a record of its config."""

import json
from functools import cache
from pathlib import Path

import pytest

from pretrain.files.lineage import method_of, read_stages
from tests.transfer.results.test_table import record
from transfer.results.protocol import Protocols, differing
from transfer.results.published import DATASETS, NO_CONFIG, beside_published, matches
from transfer.results.record import Dataset, Origin
from transfer.results.table import build_table
from transfer.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = json.loads((ROOT / "configs/published.json").read_text())
MATCHED = [i for i, figure in enumerate(PUBLISHED) if "match" in figure]
NAMES = {"ade20k": "ADE20K"}  # as the shipped configs call them


@cache
def protocols(task, config, dataset, multiscale):
    """The protocols of a shipped config, with its images, or None without the framework."""
    lists = [{"images": n, "digest": "0", "classes": []} for n in DATASETS[dataset].images]
    path = ROOT / "configs" / task / f"{config}.py"
    if task == "classification":
        from transfer.classification.config import load_config
        from transfer.classification.protocol import protocols_of

        made = load_config(path)
        assert (made.dataset, made.evaluate) == (dataset, True)
        return protocols_of(made, made.precision, *lists)
    if task == "detection":
        pytest.importorskip("detectron2")
        from transfer.detection.config import load_config
        from transfer.detection.protocol import protocols_of

        assert load_config(path).data.name == dataset
        return protocols_of(load_config(path), *lists)
    pytest.importorskip("mmseg")
    from transfer.segmentation.config import load_config
    from transfer.segmentation.protocol import protocols_of

    cfg = load_config(path)
    assert cfg["dataset"] == NAMES[dataset]
    if multiscale and "tta" in cfg:
        cfg["tta"]["on"] = True
    elif multiscale:
        cfg["views"] = "multiscale"
    return protocols_of(cfg, *lists)


def class_names(count):
    return [f"class {i}" for i in range(count)]


def synthetic(match, value, **changes):
    """A record as the run of the figure's config would write it."""
    stages = read_stages(match["stages"])
    known = DATASETS[match["dataset"]]
    counts = known.images
    origin, made = None, Protocols({"images": counts}, {"input_size": _pixels(match)})
    if "config" in match:
        views = match["evaluation"] == "multi-scale"
        places = match["task"], match["config"], match["dataset"]
        plain, made = protocols(*places, False), protocols(*places, views)
        evaluation = differing(plain.eval, made.eval)
        origin = {"name": match["config"], "train": {}, "eval": evaluation}
    fields = {
        "task": match["task"],
        "stages": stages,
        "backbone": match["arch"],
        "protocol": made.train,
        "evaluation": made.eval,
        "config": origin,
        "metrics": dict.fromkeys(TASKS[match["task"]].metrics, value),
        "dataset": Dataset(
            name=NAMES.get(match["dataset"], match["dataset"]),
            train_images=counts[0],
            val_images=counts[1],
            classes=class_names(known.classes),
        ),
    }
    fields |= changes
    if isinstance(fields["config"], dict):
        fields["config"] = Origin(**fields["config"])
    stages = fields.pop("stages")
    return record(method_of(stages), value, stages=stages, **fields)


def _pixels(match):
    return int(match["evaluation"].split()[0]) if match["evaluation"].endswith(" px") else 0


def test_there_are_enough_and_the_others_say_why():
    assert len(PUBLISHED) == 314
    found = [PUBLISHED[i]["match"] for i in MATCHED]
    assert len(found) == 261
    assert sum("config" in match and "differs" not in match for match in found) == 158
    for figure in PUBLISHED:
        assert ("match" in figure) != bool(figure.get("unmatched"))
        assert figure["source"]
        assert figure["confidence"]


@pytest.mark.parametrize("number", MATCHED)
def test_a_figure_stands_beside_the_run_of_its_config(number):
    figure = PUBLISHED[number]
    run = synthetic(figure["match"], figure["value"])
    found = [m for m in matches(build_table([run]), PUBLISHED) if m.figure is figure]
    assert len(found) == 1
    told = figure["match"].get("differs", [])
    assert found[0].differs == (*told, *([] if "config" in figure["match"] else [NO_CONFIG]))
    assert found[0].points == 0


def of(method, metric, source):
    """The first figure of a method, metric and source."""
    return next(
        f
        for f in PUBLISHED
        if "match" in f and (f["method"], f["metric"]) == (method, metric) and source in f["source"]
    )


@pytest.fixture
def figure():
    return of("FCMAE", "AP_box", "Table 6")


def differs(run, figure):
    return [m.differs for m in matches(build_table([run]), [figure])]


def test_another_setting_is_named(figure):
    match = figure["match"]
    changed = {"name": match["config"], "train": {"schedule.steps": [131_940, 20]}, "eval": {}}
    assert differs(synthetic(match, 3.0, config=changed), figure) == [("schedule.steps",)]
    soft = {"name": match["config"], "train": {}, "eval": {"soft_nms": [{}, None]}}
    assert differs(synthetic(match, 3.0, config=soft), figure) == [("soft_nms",)]
    other = {"name": "resnet50_1x", "train": {}, "eval": {}}
    assert "config (resnet50_1x, not" in differs(synthetic(match, 3.0, config=other), figure)[0][0]
    assert "one of your own" in differs(synthetic(match, 3.0, config=None), figure)[0][0]


def test_another_lineage_is_named_or_is_no_counterpart(figure):
    match = figure["match"]
    longer = read_stages([{"method": "fcmae", "data": "IN22K", "labels": False}])
    assert differs(synthetic(match, 3.0, stages=longer), figure) == [
        ("data of fcmae (IN22K, not IN1K)",)
    ]
    tuned = read_stages([*match["stages"], {"method": "supervised", "labels": True}])
    assert differs(synthetic(match, 3.0, stages=tuned), figure) == []


def test_few_images_are_named_and_other_data_is_not_compared(figure):
    def on(name, train, classes=80):
        names = class_names(classes)
        return Dataset(name=name, train_images=train, val_images=5000, classes=names)

    match = figure["match"]
    assert differs(synthetic(match, 3.0, dataset=on("coco_2017", 11_726)), figure) == [
        ("images (11,726 and 5,000)",)
    ]
    assert differs(synthetic(match, 3.0, dataset=on("nuclei", 117_266)), figure) == []
    assert differs(synthetic(match, 3.0, dataset=on("coco_2017", 117_266, 3)), figure) == []


def test_one_scale_is_not_compared_with_several():
    source = "ConvNeXt semantic_segmentation"
    single, several = (of("Supervised", f"mIoU_{views}", source) for views in ("ss", "ms"))
    run = synthetic(single["match"], 40.0)
    assert [m.figure for m in matches(build_table([run]), [single, several])] == [single]


def test_the_table_says_source_difference_and_what_differs(figure):
    text = beside_published(matches(build_table([synthetic(figure["match"], 50.0)]), [figure]))
    assert "Table 6" in text
    assert f"{50 - figure['value']:+.1f}" in text
    elsewhere = build_table([record("fcmae", 50.0, dataset="nuclei")])
    assert beside_published(matches(elsewhere, [figure])) == ""


def test_an_accuracy_stands_beside_runs_of_its_config_alone():
    """Fine-tuned longer, at another rate or from another size, a run says so beside it."""
    figure = of("FCMAE", "top1", "Table 4")
    match = figure["match"]
    changed = {"name": match["config"], "train": {"optimizer.base_lr": [6.25e-4, 1e-3]}, "eval": {}}
    assert differs(synthetic(match, 84.0, config=changed), figure) == [("optimizer.base_lr",)]
    longer = read_stages([{**match["stages"][0], "epochs": 1600}])
    assert differs(synthetic(match, 84.0, stages=longer), figure) == [
        ("epochs of fcmae (1600, not 800)",)
    ]
    larger = synthetic(match, 84.0, evaluation={"input_size": 384}, config=None)
    assert differs(larger, figure) == []
    labels = read_stages([*match["stages"], {"method": "supervised", "labels": True}])
    assert differs(synthetic(match, 84.0, stages=labels), figure) == []


def test_every_config_of_an_imagenet_figure_is_named_by_one():
    """A shipped config of ImageNet-1K or CIFAR-100 without a figure would be worth a question."""
    from transfer.classification.config import CONFIG_FOLDER, load_config

    named = {PUBLISHED[i]["match"].get("config") for i in MATCHED}
    shipped = {path.stem: load_config(path) for path in CONFIG_FOLDER.glob("*.py")}
    rest = {name for name, made in shipped.items() if made.dataset in DATASETS} - named
    assert rest == set()


def test_figures_of_spark_on_coco_are_not_invented():
    known = [f for f in PUBLISHED if f["method"] == "SparK" and f["task"].startswith("coco")]
    assert [(f["metric"], f["confidence"]) for f in known] == [("AP_mask", "secondary")]
    assert known[0]["match"]["differs"]
