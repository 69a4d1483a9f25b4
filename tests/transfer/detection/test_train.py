"""Small runs end to end: resumed to the bit, stopped on NaN and signals, refused when wrong."""

import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from pretrain.files.training_state import read_state
from pretrain.run.log import TIMED
from pretrain.run.loop import Loop
from pretrain.run.stop import NotFiniteError, Stopped
from tests.transfer.detection.conftest import CONFIG, TINY
from transfer.detection import checkpoint
from transfer.detection.config import ConfigError, load_config
from transfer.detection.evaluation.evaluate import evaluate
from transfer.detection.evaluation.evaluator import CocoEvaluator
from transfer.detection.run import eval_only, run
from transfer.detection.trainer import Batch, DetectorTraining
from transfer.results.record import read_result

Tiny = Callable[..., DictConfig]


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, how: Callable[[Batch], None]) -> None:
    """Let `how` happen before the losses of `step`, with its batch."""
    original = DetectorTraining.losses

    def losses(self: DetectorTraining, model: nn.Module, batch: Batch, at: int) -> Any:
        if at == step:
            how(batch)
        return original(self, model, batch, at)

    monkeypatch.setattr(DetectorTraining, "losses", losses)


def kill(_: Batch) -> None:
    raise KeyboardInterrupt


def test_a_killed_run_resumes_to_the_same_bits(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tiny("whole"))
    with monkeypatch.context() as patch:
        interrupt(patch, 3, kill)
        with pytest.raises(KeyboardInterrupt):
            run(tiny("broken"))
    torch.manual_seed(99)
    resumed = run(tiny("broken"), resume=True)
    assert whole is not None
    assert resumed is not None
    assert resumed.metrics == whole.metrics
    assert resumed.protocol_hash == whole.protocol_hash
    folders = [Path(tiny(name).output_dir) for name in ("whole", "broken")]
    first, second = (checkpoint.load(f / "model_final.pth")["model"] for f in folders)
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert (folders[0] / "predictions.png").is_file()
    assert read_result(folders[1]) == resumed
    assert run(tiny("broken"), resume=True) is None  # finished: nothing is done
    again = eval_only(tiny("broken"))
    assert again == resumed.metrics


def log_lines(out: Path) -> list[dict[str, float]]:
    """log.jsonl without what tells the time."""
    lines = [json.loads(line) for line in (out / "log.jsonl").open()]
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


@pytest.mark.parametrize("step", [1, 3])  # before and after the first checkpoint, of step 2
def test_the_log_of_a_killed_run_is_that_of_an_unbroken_one(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    more = ("model.masks=false", "train.eval_steps=1", "test.pictures=0")
    run(tiny("whole", *more))
    with monkeypatch.context() as patch:
        interrupt(patch, step, kill)
        with pytest.raises(KeyboardInterrupt):
            run(tiny("broken", *more))
    whole, broken = (Path(tiny(name).output_dir) for name in ("whole", "broken"))
    (broken / ".state.pt.k1ll3d.tmp").write_text("half a state")
    with (broken / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')
    run(tiny("broken", *more), resume=True)
    assert log_lines(broken) == log_lines(whole)
    assert [line["step"] for line in log_lines(whole)] == [1, 2, 3, 4]
    assert ["AP_box" in line for line in log_lines(whole)] == [True, True, True, False]
    assert not list(broken.glob(".*"))


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by path, without the log for people."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "log.txt")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_evaluating_an_unfinished_run_leaves_it_as_it_is(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 3, kill)
        with pytest.raises(KeyboardInterrupt):
            run(tiny())
    out = Path(tiny().output_dir)
    (out / ".state.pt.k1ll3d.tmp").write_text("a state that a run at work is writing")
    before = contents(out)
    figures = eval_only(tiny("out", "schedule.steps=2"))  # it is the run's length that counts
    assert "unfinished: 2 of 4 steps" in caplog.text
    assert {"AP_box", "AP_mask"} <= figures.keys()
    assert contents(out) == before
    result = run(tiny(), resume=True)
    assert result is not None
    caplog.clear()
    assert eval_only(tiny()) == result.metrics
    assert "unfinished" not in caplog.text


def test_evaluating_a_finished_run_leaves_its_record_as_it_is(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = itertools.count()  # no two readings of the memory are equal
    monkeypatch.setattr("transfer.detection.record.peak_memory_mib", lambda _: float(next(peaks)))
    result = run(tiny("out", "model.score_threshold=0.0"))
    assert result is not None
    out = Path(tiny().output_dir)
    before = contents(out)
    assert eval_only(tiny("out", "model.score_threshold=0.0")) == result.metrics
    assert contents(out) == before
    figures = eval_only(tiny("out", "model.score_threshold=0.5", "optimizer.lr=0.5"))
    after = contents(out)
    assert {name: after.pop(name) for name in before} == before
    (path,) = out.glob("evals/*.json")
    found = read_result(path)
    assert found.metrics == figures
    assert set(after) == {f"evals/{path.name}", f"evals/{path.stem}/coco_instances_results.json"}
    assert found.eval["score_threshold"] == 0.5
    assert (found.train, found.train_hash, found.cost) == (
        result.train,
        result.train_hash,
        result.cost,
    )  # trained as it was, not as the command line says now
    assert found.eval_hash != result.eval_hash
    with pytest.raises(ConfigError, match=r"another network .*anchor_sizes"):
        eval_only(tiny("out", "model.anchor_sizes=[8, 16, 32, 64, 96]"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [0, 3])  # the last one is stopped before the evaluation
def test_a_stopped_run_saves_its_state(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, step: int, number: int
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, step, lambda _: signal.raise_signal(number))
        with pytest.raises(Stopped) as stopped:
            run(tiny())
    assert stopped.value.code == 128 + number
    assert checkpoint.load(Path(tiny().output_dir) / "state.pt")["step"] == step + 1
    assert not (Path(tiny().output_dir) / "result.json").exists()
    assert run(tiny(), resume=True) is not None


def test_a_signal_after_the_last_step_stops_as_well(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_from = Loop.train_from

    def train_and_raise(self: Loop, *where: Any) -> None:
        train_from(self, *where)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Loop, "train_from", train_and_raise)
    with pytest.raises(Stopped):
        run(tiny())
    assert checkpoint.load(Path(tiny().output_dir) / "state.pt")["step"] == 4


def test_signals_end_the_process_again_once_training_is_over(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(n) for n in numbers]
    seen: list[list[object]] = []

    def look(*arguments: Any) -> tuple[CocoEvaluator, float]:
        seen.append([signal.getsignal(n) for n in numbers])
        return evaluate(*arguments)

    for module in ("run", "trainer"):
        monkeypatch.setattr(f"transfer.detection.{module}.evaluate", look)
    run(tiny("out", "train.eval_steps=3"))
    during, final = seen
    assert not set(during) & set(before)
    assert final == before
    interrupt(monkeypatch, 0, kill)
    with pytest.raises(KeyboardInterrupt):
        run(tiny("broken"))
    assert [signal.getsignal(n) for n in numbers] == before


def test_nan_stops_keeps_the_last_good_state_and_names_the_images(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = []

    def poison(batch: Batch) -> None:
        batch[0]["image"] = batch[0]["image"].float() * float("nan")
        images.extend(Path(image["file_name"]).name for image in batch)

    interrupt(monkeypatch, 2, poison)
    with pytest.raises(NotFiniteError) as error:
        run(tiny())
    told = str(error.value)
    assert "step 3: loss is nan" in told
    assert f"{tiny().output_dir}/state.pt, after step 2" in told
    assert [name for name in images if f"/{name}\n" in told] == images
    assert told.count(".png") == len(images) == 2
    state = read_state(Path(tiny().output_dir) / "state.pt", "detection")
    assert state["step"] == 2
    assert all(v.isfinite().all() for v in state["model"].values())


def test_what_diverges_between_two_lines_of_the_log_is_told_as_well(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector goes on with weights that are not finite, boxes of a cascade among them."""
    cascade = ("model.cascade=true", "model.box_loss=giou", "train.log_steps=4")

    def poison(batch: Batch) -> None:
        batch[0]["image"] = batch[0]["image"].float() * float("inf")

    interrupt(monkeypatch, 0, poison)
    with pytest.raises(NotFiniteError, match="step 1: loss is nan"):
        run(tiny("out", *cascade, "train.checkpoint_steps=4"))


def test_a_last_update_that_is_not_finite_gives_no_record(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss shows it: a step's loss is computed before its update."""
    factor = "transfer.detection.trainer.lr_factor"
    monkeypatch.setattr(factor, lambda step, **_: float("nan") if step == 3 else 1.0)
    with pytest.raises(NotFiniteError, match=r"step 4: its update made values of \S+ NaN"):
        run(tiny())
    out = Path(tiny().output_dir)
    assert not (out / "result.json").exists()
    assert not (out / "model_final.pth").exists()
    state = checkpoint.load(out / "state.pt")
    assert state["step"] == 2
    assert all(v.isfinite().all() for v in state["model"].values())


def test_an_occupied_folder_and_another_run_are_refused(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2, kill)
    with pytest.raises(KeyboardInterrupt):
        run(tiny())
    with pytest.raises(ValueError, match="not empty"):
        run(tiny())
    with pytest.raises(ValueError, match=r"optimizer\.lr: [\d.]+ -> 0\.5"):
        run(tiny("out", "optimizer.lr=0.5"), resume=True)


def test_a_run_goes_on_where_its_data_has_moved_to(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 3, kill)
        with pytest.raises(KeyboardInterrupt):
            run(tiny())
    data, moved = tiny().data, []
    for name in ("train", "val"):
        copytree(Path(data[f"{name}_json"]).parent, tmp_path / "moved" / name)
        moved.append(f"data.{name}_json={tmp_path / 'moved' / name / 'instances.json'}")
        moved.append(f"data.{name}_images={tmp_path / 'moved' / name / 'images'}")
    assert run(tiny("out", *moved), resume=True) is not None
    run_file = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run_file["paths"]["val_json"] == str(tmp_path / "moved/val/instances.json")


def test_another_annotation_file_is_another_run(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 3, kill)
        with pytest.raises(KeyboardInterrupt):
            run(tiny())
    other = json.loads(Path(tiny().data.train_json).read_text())
    other["annotations"].pop()
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"data\.train_sha256: "):
        run(tiny("out", f"data.train_json={tmp_path / 'other.json'}"), resume=True)


def test_an_evaluation_needs_no_training_data(tiny: Tiny) -> None:
    result = run(tiny("out", "schedule.steps=1", "test.pictures=0"))
    config = tiny("out")
    overrides = [f"{key}={config.data[key[5:]]}" for key in ("data.val_json", "data.val_images")]
    custom = CONFIG.with_name("custom_coco.py")
    alone = load_config(
        custom, [*TINY, *overrides, f"output_dir={config.output_dir}"], training=False
    )
    alone.input.test, alone.model = config.input.test, config.model
    assert result is not None
    assert eval_only(alone) == result.metrics
    with pytest.raises(ValueError, match=r"data\.train_json is not set"):
        load_config(custom, [*TINY, *overrides])


@pytest.mark.parametrize(
    "override", ["optimizer.lr=-1", "train.batch_size=3", "optimizer.weight_decay=-1"]
)
def test_a_refusal_leaves_nothing_behind(tiny: Tiny, override: str) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot be split"):
        run(tiny("a/out", override, "train.accumulation_steps=2"))
    assert not Path(tiny("a").output_dir).exists()


def test_an_empty_record_is_not_a_finished_run(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, 2, kill)
    with pytest.raises(KeyboardInterrupt):
        run(tiny())
    monkeypatch.undo()
    (Path(tiny().output_dir) / "result.json").touch()
    assert run(tiny(), resume=True) is not None


def test_a_missing_image_is_refused_before_anything_is_written(tiny: Tiny, tmp_path: Path) -> None:
    data = json.loads(Path(tiny().data.train_json).read_text())
    data["images"][3]["file_name"] = "gone.png"
    path = tmp_path / "train.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"gone\.png"):
        run(tiny("out", f"data.train_json={path}"))
    assert not Path(tiny().output_dir).exists()


def test_a_run_on_images_with_text_for_ids(tiny: Tiny, tmp_path: Path) -> None:
    data = []
    for name in ("train_json", "val_json"):
        content = json.loads(Path(tiny().data[name]).read_text())
        for image in content["images"]:
            image["id"] = f"{image['id']:03}.png"
        for annotation in content["annotations"]:
            annotation["image_id"] = f"{annotation['image_id']:03}.png"
        (tmp_path / name).write_text(json.dumps(content))
        data.append(f"data.{name}={tmp_path / name}")
    plain = run(tiny("plain", "model.score_threshold=0.0"))
    text = run(tiny("text", "model.score_threshold=0.0", *data))
    assert plain is not None
    assert text is not None
    assert text.metrics == plain.metrics
    found = json.loads((tmp_path / "text/coco_instances_results.json").read_text())
    assert {d["image_id"] for d in found} == {f"{i:03}.png" for i in (5, 15, 25, 35, 45)}


def test_a_batch_that_cannot_be_divided_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        run(tiny("out", "train.batch_size=3", "train.accumulation_steps=2"))


def test_averaged_weights_accumulation_and_bfloat16_run(tiny: Tiny) -> None:
    result = run(
        tiny(
            "out",
            "train.ema_decay=0.9",
            "train.accumulation_steps=2",
            "train.precision=bf16",
            "freeze=backbone",
            "schedule.steps=2",
            "test.pictures=0",
        )
    )
    assert result is not None
    state = read_state(Path(tiny().output_dir) / "state.pt", "detection")
    final = checkpoint.load(Path(tiny().output_dir) / "model_final.pth")
    name = "roi_heads.box_head.fc1.weight"
    assert torch.equal(final["model"][name], state["average"][name])
    assert not torch.equal(final["model"][name], state["model"][name])


def test_only_tensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    torch.save({"model": {}, "hook": Path("x")}, path)
    with pytest.raises(ValueError, match="pathlib"):
        checkpoint.load(path)
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"bad\.pth"):
        checkpoint.load(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(ValueError, match="holds 'model'"):
        checkpoint.load(path)


def test_a_detector_of_another_shape_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {"pixel": torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match=r"missing: .*left over: pixel"):
        eval_only(tiny("out", f"checkpoint={path}"))
