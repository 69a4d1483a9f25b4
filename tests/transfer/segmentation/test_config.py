"""Config files, their overrides, and the protocol that a record carries."""

from pathlib import Path

import pytest

from transfer.segmentation.config import apply_option, fill_in, load_config, protocol

CUSTOM = "configs/segmentation/custom.py"
DATA = ["data_root=/data", "classes=sky,sea"]


def test_a_number_at_the_top_reaches_every_place():
    options = [*DATA, "max_iters=90", "crop_size=(96, 96)", "batch_size=6", "accumulation_steps=3"]
    filled = fill_in(load_config(CUSTOM, options))
    assert filled.model.data_preprocessor.size == (96, 96)
    assert filled.train_dataloader.dataset.pipeline[3].crop_size == (96, 96)
    assert filled.train_cfg.max_iters == 270
    assert filled.param_scheduler[0].end == 270
    assert filled.param_scheduler[0].warmup == 120
    assert filled.optim_wrapper.clip_grad.max_norm == 3.0
    assert filled.train_dataloader.batch_size == 2
    assert filled.model.decode_head.num_classes == 2


def test_the_batch_is_shared_among_processes():
    cfg = load_config(CUSTOM, [*DATA, "batch_size=16", "accumulation_steps=2"])
    assert fill_in(cfg, world_size=4).train_dataloader.batch_size == 2
    with pytest.raises(ValueError, match="batch_size=16 cannot be divided among 3 processes"):
        fill_in(cfg, world_size=3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("wieghts=none", "no key 'wieghts'; did you mean 'weights'"),
        ("model.decode_head.chanels=3", "did you mean 'model.decode_head.channels'"),
        ("train_dataloader.dataset.pipline=1", "did you mean 'train_dataloader.dataset.pipeline'"),
        ("lr=fast", "lr=fast: a number expected, like"),
        ("sync_bn=maybe", "true or false expected"),
        ("lr", "not of the form key=value"),
    ],
)
def test_a_wrong_option_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        load_config(CUSTOM, [option])


def test_an_option_in_the_place_of_a_named_setting_has_its_type():
    cfg = load_config(CUSTOM, ["model.decode_head.num_classes=5"])
    assert cfg.model.decode_head.num_classes == 5
    with pytest.raises(ValueError, match="a whole number expected"):
        load_config(CUSTOM, ["model.decode_head.channels=many"])


def test_options_of_every_kind():
    cfg = load_config(CUSTOM)
    for option in (
        "classes=sky,sea",
        "lr=1",
        'arch_args={"depths": [1, 1], "flag": true}',
        "arch=resnet18",
        "optim_wrapper.optimizer.betas=(0.9, 0.95)",
        "train_pipeline.4.type=Flip",
        "arch_args.drop=0.5",
        "reduce_zero_label=true",
    ):
        apply_option(cfg, option)
    assert cfg.classes == ["sky", "sea"]
    assert cfg.lr == 1.0
    assert isinstance(cfg.lr, float)
    assert cfg.arch_args == {"depths": [1, 1], "flag": True, "drop": 0.5}
    assert cfg.reduce_zero_label is True
    assert cfg.train_pipeline[4].type == "Flip"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["classes=a,b"], "data_root is not set"),
        (["data_root=/x"], "at least two different names, got"),
        (["data_root=/x", "classes=a,a"], "at least two different names"),
        (["data_root=/x", "classes=nowhere.txt"], "text file"),
        ([*DATA, "max_iters=20"], "warmup_iters=40 must lie between"),
        ([*DATA, "arch=${learning}"], "refers to"),
    ],
)
def test_a_config_that_cannot_run_is_refused(options, message):
    cfg = load_config(CUSTOM, options)
    with pytest.raises(ValueError, match=message):
        fill_in(cfg)


def test_an_unknown_config_names_the_nearest():
    with pytest.raises(FileNotFoundError, match="shapes_upernet"):
        load_config("configs/segmentation/shape_upernet.py")


def test_a_shipped_config_may_be_named():
    assert Path(load_config("custom").filename).samefile(CUSTOM)


def test_a_config_of_detection_is_told():
    with pytest.raises(ValueError, match=r"custom_coco\.py cannot be read as a config: it is not"):
        load_config("configs/detection/custom_coco.py")


@pytest.mark.parametrize("name", ["run.yaml", "run.yml", "run.YAML", "run.json", "run"])
@pytest.mark.parametrize("base", [None, "NAME", "{{ fileDirname }}/NAME", "{{$NO:NAME}}"])
def test_only_python_configs_are_read(name, base, tmp_path):
    """Named on the command line, or by a `_base_` of a `_base_`."""
    config = hostile = tmp_path / name
    hostile.write_text(f'lr: !!python/object/apply:os.system ["touch {tmp_path / "ran"}"]\n')
    if base is not None:
        (tmp_path / "between.py").write_text(f"_base_ = [{base.replace('NAME', name)!r}]\n")
        config = tmp_path / "top.py"
        config.write_text("_base_ = ['between.py']\n")
    with pytest.raises(ValueError, match=rf"{name}: a config is a Python file \(\.py\).*_base_ ="):
        load_config(config)
    assert not (tmp_path / "ran").exists()


def test_a_value_runs_nothing(tmp_path):
    text = f'!!python/object/apply:os.system ["touch {tmp_path / "ran"}"]'
    assert load_config(CUSTOM, [f"dataset={text}"])["dataset"] == text
    with pytest.raises(ValueError, match="no key '_base_'"):
        load_config(CUSTOM, ["_base_=run.yaml"])
    assert not (tmp_path / "ran").exists()


def test_the_protocol_is_what_changes_a_figure():
    base = protocol(load_config(CUSTOM, DATA))
    same = [
        "weights=x.pth",
        "arch=resnet18",
        "seed=3",
        "data_root=/y",
        "workers=3",
        "log_steps=1",
        'arch_args={"a": 1}',
        "accumulation_steps=2",
        "grad_checkpointing=True",
        "eval_steps=20",
    ]
    assert protocol(load_config(CUSTOM, [*DATA, *same])) == base
    for option in (
        "lr=0.1",
        "crop_size=(80, 80)",
        "classes=sky,land",
        "layer_decay=0.9",
        "model.decode_head.pool_scales=(1, 2)",
        "freeze=backbone",
        "precision=bf16",
        "ema_decay=0.9",
        "budget=quarter",
        "tta.on=True",
    ):
        assert protocol(load_config(CUSTOM, [*DATA, option])) != base, option


def test_class_names_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("sky\nsea\nsand\n")
    cfg = load_config(CUSTOM, ["data_root=/x", f"classes={tmp_path / 'names.txt'}"])
    assert fill_in(cfg).classes == ("sky", "sea", "sand")


def test_ade20k_has_150_classes():
    filled = fill_in(load_config(CUSTOM, ["data_root=/x", "classes=ade20k"]))
    assert filled.num_classes == 150
    assert filled.classes[:2] == ("wall", "building")
    assert len(filled.palette) == 150


def test_two_configs_of_one_protocol_are_one(tmp_path):
    """What a config file is called, and for which architecture, is no part of the protocol."""
    folder = Path("configs/segmentation")
    spark, adamw = (
        protocol(load_config(folder / f"{name}_upernet_512.py"))
        for name in ("spark_resnet50", "resnet50_adamw")
    )
    assert spark == adamw
    copy = tmp_path / "my_copy.py"
    copy.write_text(f"_base_ = [{str(Path(CUSTOM).resolve())!r}]\n")
    assert protocol(load_config(copy, DATA)) == protocol(load_config(CUSTOM, DATA))


def test_the_protocol_holds_what_a_budget_stands_for():
    quarter = protocol(load_config(CUSTOM, [*DATA, "budget=quarter"]))
    same = protocol(load_config(CUSTOM, [*DATA, "max_iters=62", "warmup_iters=10"]))
    assert quarter == same
    assert protocol(load_config(CUSTOM, [*DATA, "budget=debug"]))["max_iters"] == 20


def test_the_protocol_of_a_single_scale_test_knows_no_views():
    one, other = (
        protocol(load_config(CUSTOM, [*DATA, f"tta.ratios=({ratio}, 1.0)"])) for ratio in (0.5, 0.7)
    )
    assert one == other
    assert one["tta"] is None
    on = protocol(load_config(CUSTOM, [*DATA, "tta.on=True"]))["tta"]
    assert set(on) == {"ratios", "flip", "resize", "mode"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("accumulation=2", "accumulation_steps"),
        ("ema=0.99", "ema_decay"),
        ("clip_grad=None", "clip_norm"),
        ("decay_rule=vit", "layer_decay_rule"),
        ("decay_norms=True", "no_weight_decay"),
        ("drop_path=0.1", "drop_path_rate"),
        ("checkpointing=True", "grad_checkpointing"),
        ("amp=True", "precision"),
        ("amp_dtype=float16", "precision"),
        ("views=multiscale", r"tta\.on"),
        ("test_ratios=(1.0,)", r"tta\.ratios"),
        ("test_resize=keep_ratio", r"tta\.resize"),
        ("log_interval=3", "log_steps"),
        ("save_interval=3", "checkpoint_steps"),
    ],
)
def test_a_former_name_is_an_error_that_says_the_new_one(old, new, tmp_path):
    with pytest.raises(ValueError, match=f"renamed: write {new}"):
        load_config(CUSTOM, [old])
    key, value = old.split("=")
    config = tmp_path / "old.py"
    literal = repr(value) if value[0].islower() else value
    config.write_text(f"_base_ = [{str(Path(CUSTOM).resolve())!r}]\n{key} = {literal}\n")
    with pytest.raises(ValueError, match=f"{key} has been renamed: write {new}"):
        load_config(config)


@pytest.mark.parametrize(
    "option",
    [
        "batch_size=0",
        "accumulation_steps=0",
        "log_steps=0",
        "checkpoint_steps=0",
        "eval_steps=0",
        "val_limit=-1",
        "workers=-1",
        "seed=-1",
        "crop_size=(0, 64)",
        "scale=(64,)",
        "lr=-1",
        "lr=nan",
        "weight_decay=-0.1",
        "clip_norm=-1",
        "ema_decay=2",
        "layer_decay=1.5",
        "drop_path_rate=1",
        "precision=fp8",
        "no_weight_decay=some",
        "budget=half",
        "test_mode=zz",
        "tta.ratios=(0,)",
        "tta.resize=warp",
        "tta.mode=zz",
        "fresh=5",
        "classes=1,2",
        "warmup_iters=250",
        "max_iters=0",
    ],
)
def test_a_setting_without_meaning_is_refused_before_anything_starts(option):
    name = option.partition("=")[0]
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        fill_in(load_config(CUSTOM, [*DATA, option]))


def test_a_sliding_window_needs_a_stride():
    with pytest.raises(ValueError, match="stride=None"):
        fill_in(load_config(CUSTOM, [*DATA, "test_mode=slide"]))


def test_no_more_classes_than_labels_can_say():
    names = ",".join(f"c{i}" for i in range(256))
    with pytest.raises(ValueError, match="256 classes: 8-bit label maps hold at most 255"):
        fill_in(load_config(CUSTOM, ["data_root=/x", f"classes={names}"]))


def test_views_replace_the_resize_and_nothing_else(tmp_path):
    """A step between loading and Resize used to be dropped from a multi-scale test."""
    config = tmp_path / "config.py"
    head = f"_base_ = [{str(Path(CUSTOM).resolve())!r}]\n"
    step = 'dict(type="PhotoMetricDistortion")'
    config.write_text(
        head + f"test_pipeline = [dict(type='LoadImageFromFile'), {step}, "
        "dict(type='Resize', scale='${scale}'), dict(type='LoadLabels')]\n"
    )
    pipeline = fill_in(load_config(config, [*DATA, "tta.on=True"])).evaluation_pipeline
    assert [t["type"] for t in pipeline] == [
        "LoadImageFromFile",
        "PhotoMetricDistortion",
        "TestTimeAug",
    ]
    assert [views[0]["type"] for views in pipeline[2].transforms] == [
        "Resize",
        "RandomFlip",
        "LoadLabels",
    ]
    config.write_text(head + "test_pipeline = [dict(type='LoadImageFromFile')]\n")
    with pytest.raises(ValueError, match="the one Resize of test_pipeline, which has 0"):
        fill_in(load_config(config, [*DATA, "tta.on=True"]))


def test_batches_are_pinned_where_there_is_a_gpu(monkeypatch):
    assert fill_in(load_config(CUSTOM, DATA)).train_dataloader.pin_memory is False
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    filled = fill_in(load_config(CUSTOM, DATA))
    assert filled.train_dataloader.pin_memory is True
    assert filled.val_dataloader.pin_memory is True


@pytest.mark.parametrize("text", ["lr = (", "_base_ = ['custom.py', 'custom.py']", "lr = learning"])
def test_a_config_that_is_not_sound_python_is_named(text, tmp_path):
    (tmp_path / "custom.py").write_text("lr = 1.0\n")
    config = tmp_path / "broken.py"
    config.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.py cannot be read as a config"):
        load_config(config)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("batchsize = 3", "did you mean 'batch_size'"),
        ("layerdecay = 0.5", "'layer_decay'"),
    ],
)
def test_a_misspelt_setting_of_a_config_file_is_an_error(line, message, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f'_base_ = ["{Path(CUSTOM).resolve()}"]\nnorm_cfg = dict(type="GN")\n')
    load_config(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        load_config(path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lr=1e30", r"lr=1e\+30: must be at most 100"),
        ("tta.ratios=()", "tta.ratios=.*at least 1 value"),
        ("head_channels=0", "head_channels=0: must be at least 1"),
        ("seed=99999999999", "must be below 4294967296"),
    ],
)
def test_a_setting_outside_of_its_range_is_named_with_it(option, message):
    with pytest.raises(ValueError, match=message):
        fill_in(load_config(CUSTOM, [*DATA, option]))
