"""Overrides are checked, budgets shorten, and the protocol holds what may change the number."""

from pathlib import Path

import pytest

from transfer.detection.config import ConfigError, load_config, protocol_of
from transfer.results.record import protocol_hash

CONFIG = Path(__file__).parents[3] / "configs/detection/shapes_mask_rcnn.py"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batchsize=3", "did you mean 'train.batch_size'"),
        ("train.batch=3", "train.batch is named train.batch_size now"),
        ("train.amp=true", r"train.amp is named train.precision \(fp32, bf16 or fp16\) now"),
        ("decay.rule=vit", "named layer_decay_rule now"),
        ("train.precision=16", "train.precision='16': must be 'fp32', 'bf16' or 'fp16'"),
        ("train.clip_norm=0", "train.clip_norm=0.0: must be above 0 or None"),
        ("train.ema_decay=1.0", "train.ema_decay=1.0: must be below 1"),
        ("weigths=none", "did you mean 'weights'"),
        ("data.val_image=x", "did you mean 'data.val_images'"),
        ("train.init_checkpoint=model.pkl", "weights=FILE"),
        ("train.batch_size=two", "train.batch_size: a whole number expected, like 4, got 'two'"),
        ("train.compile=1", "true or false expected"),
        ("model=3", "keys and values expected"),
        ("train.batch", "not of the form key=value"),
        ("budget=half", "must be 'full', 'quarter' or 'debug'"),
        ("freeze=all", "must be 'none' or 'backbone'"),
        ("test.engine=cocoapi", "must be 'faster-coco-eval' or 'pycocotools'"),
        ('test.tta={"sizes": [3]}', "test.tta.max_size is missing; test.tta.flip is missing"),
        ('model.soft_nms={"method": "linear"}', "model.soft_nms.iou_threshold is missing"),
        ("train.accumulation_steps=0", "at least 1"),
        ("data.val_json=None", "data.val_json is not set"),
        ("optimizer.lr=1e30", "optimizer.lr=1e\\+30: must be at most 100"),
        ("optimizer.weight_decay=-0.1", "must be at least 0"),
        ("optimizer.lr=nan", "a number expected"),
        ("optimizer.lr=1e999", "must be a finite number"),
        ("schedule.steps=0", "schedule.steps=0: must be at least 1"),
        ("freeze_stages=99", "freeze_stages=99: must be at most 5"),
        ("train.device=tpu", "train.device='tpu'"),
        ("test.batch_size=0", "must be at least 1"),
        ("model.max_detections=-1", "must be at least 1"),
        ("model.anchor_sizes=[32]", "must be of at least 5 values"),
        ("features.drop_path_rate=1", "must be below 1"),
        ("output_dir=", "output_dir='': must be not empty"),
    ],
)
def test_a_wrong_override_is_one_clear_error(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIG, [override])


def test_views_are_not_merged_by_another_nms_than_asked_for() -> None:
    soft = 'model.soft_nms={"method": "linear", "iou_threshold": 0.5, "sigma": 1, "min_score": 0}'
    tta = 'test.tta={"sizes": [400], "max_size": 1333, "flip": True}'
    with pytest.raises(ConfigError, match="merges its views by NMS"):
        load_config(CONFIG, [soft, tta])


def test_a_missing_config_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="did you mean 'shapes_mask_rcnn'"):
        load_config(CONFIG.with_name("shapes.py"))


@pytest.mark.parametrize("name", ["run.yaml", "run.yml", "run.YAML", "run.json", "run"])
def test_only_python_configs_are_read(name: str, tmp_path: Path) -> None:
    path, ran = tmp_path / name, tmp_path / "ran"
    path.write_text(f'config: !!python/object/apply:os.system ["touch {ran}"]\n')
    with pytest.raises(ConfigError, match=r"is a Python file \(\.py\).*import config"):
        load_config(path)
    assert not ran.exists()


def test_overrides_reach_the_config() -> None:
    config = load_config(
        CONFIG, ["arch=resnet18", 'arch_args={"a": 1}', "optimizer.lr=1", "data.root=/d"]
    )
    assert config.arch == "resnet18"
    assert config.arch_args == {"a": 1}
    assert config.optimizer.lr == 1.0
    assert config.data.val_images == "/d/coco/val2017"


def test_the_data_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/elsewhere")
    assert load_config(CONFIG).data.train_images == "/elsewhere/coco/train2017"


def test_budgets_shorten_the_schedule() -> None:
    full, quarter, debug = (
        load_config(CONFIG, [f"budget={name}"]).schedule for name in ("full", "quarter", "debug")
    )
    assert quarter.steps == full.steps / 4
    assert quarter.milestones[0] / quarter.steps == pytest.approx(
        full.milestones[0] / full.steps, abs=0.02
    )
    assert debug.steps == 20
    assert debug.warmup_steps < debug.steps


def test_the_protocol_is_the_same_for_scratch_and_pretrained() -> None:
    base = load_config(CONFIG, ["weights=none", "arch=resnet18", "output_dir=a"])
    same = load_config(
        CONFIG, ["weights=x", "seed=3", "data.root=z", "train.workers=1", "output_dir=b"]
    )
    other = load_config(CONFIG, ["optimizer.lr=0.5"])
    hashes = [protocol_hash(protocol_of(c)) for c in (base, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_configs_do_not_leak_into_each_other() -> None:
    load_config(CONFIG, ["train.batch_size=64"])
    assert load_config(CONFIG).train.batch_size != 64


def test_a_typo_in_a_config_file_is_an_error() -> None:
    path = CONFIG.with_name("mistyped_for_a_test.py")
    path.write_text("from .shapes_mask_rcnn import config\n\nconfig.train.batchsize = 3\n")
    try:
        with pytest.raises(ConfigError, match=r"train.batchsize is not a setting.*batch_size"):
            load_config(path)
    finally:
        path.unlink()


def test_a_shipped_config_may_be_named_and_a_wrong_name_tells_the_nearest():
    assert load_config(CONFIG.stem).schedule == load_config(CONFIG).schedule
    with pytest.raises(ConfigError, match="did you mean 'shapes_mask_rcnn'"):
        load_config("configs/detection/shapes_mask_rcn.py")
