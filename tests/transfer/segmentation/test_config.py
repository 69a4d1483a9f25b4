"""Config files, their overrides, and the protocol that a record carries."""

import pytest

from transfer.segmentation.config import apply_option, fill_in, load_config, protocol

CUSTOM = "configs/segmentation/custom.py"
DATA = ["data_root=/data", "classes=sky,sea"]


def test_a_number_at_the_top_reaches_every_place():
    options = [*DATA, "max_iters=90", "crop_size=(96, 96)", "batch_size=6", "accumulation=3"]
    filled = fill_in(load_config(CUSTOM, options))
    assert filled.model.data_preprocessor.size == (96, 96)
    assert filled.train_dataloader.dataset.pipeline[3].crop_size == (96, 96)
    assert filled.train_cfg.max_iters == 270
    assert filled.param_scheduler[1].end == 270
    assert filled.train_dataloader.batch_size == 2
    assert filled.model.decode_head.num_classes == 2


def test_the_batch_is_shared_among_processes():
    cfg = load_config(CUSTOM, [*DATA, "batch_size=16", "accumulation=2"])
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


def test_options_of_every_kind():
    cfg = load_config(CUSTOM)
    for option in (
        "classes=sky,sea", "lr=1", 'arch_args={"depths": [1, 1], "flag": true}', "arch=resnet18",
        "optim_wrapper.optimizer.betas=(0.9, 0.95)", "train_pipeline.4.type=Flip",
        "arch_args.drop=0.5", "reduce_zero_label=true",
    ):  # fmt: skip
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
    same = ["weights=x.pth", "arch=resnet18", "seed=3", "data_root=/y", "workers=3",
            "log_interval=1", 'arch_args={"a": 1}']  # fmt: skip
    assert protocol(load_config(CUSTOM, [*DATA, *same])) == base
    for option in ("lr=0.1", "crop_size=(80, 80)", "classes=sky,land", "layer_decay=0.9",
                   "model.decode_head.pool_scales=(1, 2)", "freeze=backbone"):  # fmt: skip
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
