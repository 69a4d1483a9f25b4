"""A run from config to record: interrupted runs equal unbroken ones, and nothing is overwritten."""

import json
import os
import shutil
import signal

import pytest
import torch

from pretrain.files.encoder_file import write_encoder
from pretrain.run.folder import RunFolder
from pretrain.run.log import TIMED
from pretrain.run.stop import NotFiniteError, Stopped
from tests.identity import identity_of
from tests.transfer.weights.cases_layouts import BEIT
from transfer.features.timm_features import build_encoder
from transfer.results.record import read_result
from transfer.segmentation import runner as runner_module
from transfer.segmentation.state import load


def assert_same_weights(first, second):
    first, second = (load(folder / "state.pt")["model"] for folder in (first, second))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def assert_same_log(first, second, steps):
    first, second = (
        [json.loads(line) for line in (folder / "log.jsonl").open()] for folder in (first, second)
    )
    assert [line["step"] for line in second] == steps
    for line in (*first, *second):
        for name in TIMED:
            line.pop(name, None)
    assert first == second


def stop_after(monkeypatch, steps, action):
    """Do `action` once `steps` steps are done, before they are saved."""
    save = runner_module.TransferRunner.call_hook

    def call_hook(self, name, **kwargs):
        if name == "after_train_iter" and self.iter + 1 == steps:
            action()
        save(self, name, **kwargs)

    monkeypatch.setattr(runner_module.TransferRunner, "call_hook", call_hook)


class KilledError(Exception):
    """Stands for SIGKILL: nothing of the run gets to clean up."""


def kill():
    raise KilledError


@pytest.fixture
def whole(segment, tiny, tmp_path_factory):
    """The folder of the unbroken run, trained once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "whole"
    if not folder.exists():
        segment(tiny, folder)
    return folder


def test_the_record_of_a_run(whole, tmp_path):
    result = read_result(whole)
    assert (result.task, result.method, result.backbone) == (
        "segmentation",
        "scratch",
        "convnext_atto",
    )
    assert set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    assert set(result.per_class["IoU"]) == {"noise", "square", "stripe"}
    assert result.dataset.train_images == 16
    assert result.dataset.val_images == 4
    assert result.weights is None
    assert result.cost.images_per_second > 0
    assert any("sync_bn" in note for note in result.notes)
    text = str(result.protocol)
    assert "convnext_atto" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_killed_run_goes_on_to_the_same_end(segment, tiny, whole, tmp_path, monkeypatch, steps):
    with monkeypatch.context() as patch:
        stop_after(patch, steps, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path)
    resumed = segment(tiny, tmp_path, resume=True)
    assert_same_weights(whole, tmp_path)
    assert_same_log(whole, tmp_path, steps=[2, 4, 6])
    assert resumed.metrics == read_result(whole).metrics
    assert resumed.per_class == read_result(whole).per_class


def test_a_vit_pretrained_at_another_size_goes_on_to_the_same_end(
    segment, evaluate, tiny, tmp_path, monkeypatch
):
    """Its relative positions have the shapes of that size, not those of its name's 224 px."""
    arch, args = BEIT
    identity = identity_of(arch, args, method="beit", input_size=96, pixel_mean=(0.4, 0.4, 0.4))
    torch.manual_seed(0)
    file = tmp_path / "encoder.safetensors"
    write_encoder(file, build_encoder(arch, args).state_dict(), identity)
    options = [o for o in tiny if not o.startswith(("arch", "drop_path"))] + [f"weights={file}"]
    whole = segment(options, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(KilledError):
            segment(options, tmp_path / "broken")
    file.unlink()  # the state holds all weights
    resumed = segment(options, tmp_path / "broken", resume=True)
    assert resumed.metrics == whole.metrics
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")
    assert evaluate(options, tmp_path / "whole") == whole.metrics


def test_accumulation_resumes_exactly(segment, tiny, tmp_path, monkeypatch):
    tiny = [*tiny, "accumulation_steps=2", "log_steps=3"]
    segment(tiny, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path / "broken")
    with (tmp_path / "broken" / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "lo')
    segment(tiny, tmp_path / "broken", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")
    assert_same_log(tmp_path / "whole", tmp_path / "broken", steps=[3, 6])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(segment, tiny, whole, tmp_path, monkeypatch, number):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        stop_after(patch, 3, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped) as stopped:
            segment(tiny, tmp_path / "stopped")
    assert stopped.value.code == 128 + number
    assert load(tmp_path / "stopped/state.pt")["step"] == 3
    segment(tiny, tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_a_signal_during_the_last_evaluation_stops_it(segment, tiny, whole, tmp_path, monkeypatch):
    from transfer.segmentation.iou import ExactIoU

    process = ExactIoU.process

    def signalled(self, *args, **kwargs):
        if (tmp_path / "state.pt").is_file():  # not yet where the end is tried before training
            os.kill(os.getpid(), signal.SIGTERM)
        process(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ExactIoU, "process", signalled)
        with pytest.raises(Stopped):
            segment(tiny, tmp_path)
    assert load(tmp_path / "state.pt")["step"] == 6
    assert not (tmp_path / "result.json").exists()
    resumed = segment(tiny, tmp_path, resume=True)
    assert resumed.metrics == read_result(whole).metrics
    assert_same_weights(whole, tmp_path)
    assert_same_log(whole, tmp_path, steps=[2, 4, 6])


def contents(folder):
    """The bytes of every file below a folder, by path, without the log for people."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "log.txt")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_evaluation_alone_repeats_the_figures(evaluate, tiny, whole):
    before = contents(whole)
    assert evaluate(tiny, whole) == read_result(whole).metrics
    assert contents(whole) == before  # cost and settings of the training among it


def test_evaluating_an_unfinished_run_makes_no_record(
    segment, evaluate, tiny, whole, tmp_path, monkeypatch, caplog
):
    with monkeypatch.context() as patch:
        stop_after(patch, 4, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path)
    (tmp_path / ".state.pt.abcdefgh.tmp").write_bytes(b"a state that a run at work is writing")
    before = contents(tmp_path)
    figures = evaluate([*tiny, "max_iters=4"], tmp_path)  # it is the run's length that counts
    assert set(figures) == {"mIoU", "mAcc", "aAcc"}
    assert "unfinished: 2 of 6 steps" in caplog.text
    after = contents(tmp_path)
    assert {name: after.pop(name) for name in before} == before
    assert set(after) == {"eval-unfinished/predictions.png"}
    segment(tiny, tmp_path, resume=True)
    assert_same_weights(whole, tmp_path)
    caplog.clear()
    assert evaluate(tiny, tmp_path) == read_result(tmp_path).metrics
    assert "unfinished:" not in caplog.text


def test_a_step_is_not_a_forward_pass_when_a_run_is_called_unfinished(
    segment, evaluate, tiny, tmp_path, monkeypatch, caplog
):
    options = [*tiny, "accumulation_steps=2", "max_iters=16", "warmup_iters=4", "budget=quarter"]
    with monkeypatch.context() as patch:
        stop_after(patch, 7, kill)
        with pytest.raises(KilledError):
            segment(options, tmp_path)
    evaluate(options, tmp_path)
    assert "unfinished: 2 of 4 steps" in caplog.text
    segment(options, tmp_path, resume=True)
    caplog.clear()
    evaluate(options, tmp_path)
    assert "unfinished:" not in caplog.text


def test_nan_stops_with_the_last_good_state_and_the_images(segment, tiny, tmp_path, monkeypatch):
    from mmseg.models.segmentors import EncoderDecoder

    loss, calls = EncoderDecoder.loss, []

    def bad(self, *args):
        losses = loss(self, *args)
        calls.append(1)
        return {k: v * float("nan") for k, v in losses.items()} if len(calls) == 4 else losses

    monkeypatch.setattr(EncoderDecoder, "loss", bad)
    with pytest.raises(NotFiniteError, match=r"step 4: the loss is nan on .*\d\d\.png") as error:
        segment(tiny, tmp_path)
    assert "holds the last good state" in str(error.value)
    saved = load(tmp_path / "state.pt")
    assert saved["step"] == 2
    assert all(torch.isfinite(t).all() for t in saved["model"].values())


def test_a_last_update_that_is_not_finite_gives_no_record(segment, tiny, tmp_path, monkeypatch):
    """No loss shows it: a step's loss is computed before its update."""
    from mmengine.optim import OptimWrapper

    step, calls = OptimWrapper.step, []

    def bad(self, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            self.param_groups[0]["lr"] = float("nan")
        step(self, **kwargs)

    monkeypatch.setattr(OptimWrapper, "step", bad)
    with pytest.raises(NotFiniteError, match=r"\S+ holds values that are not finite"):
        segment(tiny, tmp_path)
    assert not (tmp_path / "result.json").exists()
    saved = load(tmp_path / "state.pt")
    assert saved["step"] == 4
    assert all(torch.isfinite(t).all() for t in saved["model"].values())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lr=0.1", r"protocol.lr: 0.003 -> 0.1"),
        ("accumulation_steps=2", "accumulation_steps: 1 -> 2"),
        ("precision=bf16", "protocol.precision: 'fp32' -> 'bf16'"),
        ("seed=5", "seed: 0 -> 5"),
        ("arch=resnet18", "arch: 'convnext_atto' -> 'resnet18'"),
        ("arch_args={}", None),  # none given: the run's own
        ("workers=1", None),
    ],
)
def test_resuming_with_other_settings_is_refused(segment, tiny, broken, tmp_path, option, message):
    folder = tmp_path / "run"
    shutil.copytree(broken, folder)
    before = contents(folder)
    if message is None:
        assert segment([*tiny, option], folder, resume=True)
        return
    with pytest.raises(ValueError, match=f"other settings.*{message}"):
        segment([*tiny, option], folder, resume=True)
    assert contents(folder) == before


@pytest.fixture
def broken(segment, tiny, tmp_path_factory, monkeypatch):
    """The folder of a run that was killed after its first state, made once for all tests."""
    folder = tmp_path_factory.getbasetemp() / "broken"
    if not folder.exists():
        with monkeypatch.context() as patch:
            stop_after(patch, 3, kill)
            with pytest.raises(KilledError):
                segment(tiny, folder)
    return folder


def test_resuming_with_other_images_is_refused(segment, tiny, broken, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "scenes")
    shutil.copytree(broken, tmp_path / "run")
    moved = [*tiny, f"data_root={tmp_path / 'scenes'}"]
    for kind in ("images", "labels"):
        (tmp_path / "scenes" / kind / "train/00.png").unlink()
    with pytest.raises(ValueError, match=r"other settings.*training_images"):
        segment(moved, tmp_path / "run", resume=True)
    for kind in ("images", "labels"):
        shutil.copy(scenes / kind / "train/00.png", tmp_path / "scenes" / kind / "train/00.png")
    assert segment(moved, tmp_path / "run", resume=True)


def test_a_resumed_run_still_says_what_it_began_with(segment, tiny, tmp_path, monkeypatch):
    from tests.transfer.segmentation.test_model import encoder_file

    encoder = tmp_path / "encoder.safetensors"
    encoder_file(encoder)
    tiny = [o for o in tiny if not o.startswith("arch")] + [f"weights={encoder}"]
    with monkeypatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(KilledError):
            segment(tiny, tmp_path / "run")
    before = (tmp_path / "run/run.json").read_bytes()
    encoder.rename(tmp_path / "moved.safetensors")  # not needed any more
    result = segment(tiny, tmp_path / "run", resume=True)
    assert (tmp_path / "run/run.json").read_bytes() == before
    assert json.loads(before)["config"]["weights"] == str(encoder)
    assert result.weights["sha256"] == json.loads(before)["weights"]
    assert result.method == "spark"


def test_other_weights_are_another_run(segment, tiny, broken, tmp_path):
    from tests.transfer.segmentation.test_model import encoder_file

    shutil.copytree(broken, tmp_path / "run")
    encoder_file(tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"other settings.*weights: 'none' -> "):
        segment(
            [*tiny, f"weights={tmp_path / 'encoder.safetensors'}"], tmp_path / "run", resume=True
        )


def test_a_second_writer_is_refused(segment, tiny, tmp_path):
    with (
        RunFolder(tmp_path / "run", "result.json").lock(),
        pytest.raises(ValueError, match=r"process .* writes in"),
    ):
        segment(tiny, tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["arch=resnot18", "arch_args={}"], "timm has no architecture"),
        (["optim_wrapper.optimizer.betas=(2,0.9)"], "Invalid beta"),  # built by MMEngine, last
    ],
)
def test_a_refused_run_leaves_no_folder(segment, tiny, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        segment([*tiny, *options], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_saved_predictions_give_the_figures_again(segment, evaluate, tiny, tmp_path):
    from transfer.segmentation.config import load_config
    from transfer.segmentation.run import score

    options = [*tiny, "save_predictions=True", "max_iters=3", "ema_decay=0.5"]
    result = segment(options, tmp_path)
    cfg = load_config("configs/segmentation/custom.py", options)
    assert score(cfg, tmp_path) == pytest.approx(result.metrics)
    ratios = ["tta.on=True", "tta.ratios=(0.75, 1.0)"]
    views = evaluate([*options, *ratios, "lr=0.5"], tmp_path)
    assert read_result(tmp_path) == result
    (path,) = tmp_path.glob("evals/*.json")
    found = read_result(path)
    assert found.metrics == views
    assert set(found.per_class["IoU"]) == {"noise", "square", "stripe"}
    assert result.eval["tta"] is None
    assert found.eval["tta"]["ratios"] == [0.75, 1.0]
    assert found.train == result.train  # what the net was trained with, not lr=0.5
    assert found.config.train == result.config.train
    assert set(found.config.eval) - set(result.config.eval) == {"tta"}
    assert not list(tmp_path.glob("*/result.json"))
    assert evaluate(options, tmp_path) == pytest.approx(result.metrics)


@pytest.mark.parametrize("lost", ["record", "record.eval_hash", "pixels"])
def test_a_folder_of_an_older_format_is_named(segment, evaluate, tiny, whole, tmp_path, lost):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "result.json").unlink()
    told = json.loads((run / "run.json").read_text())
    outer, _, inner = lost.partition(".")
    del (told[outer] if inner else told)[inner or outer]
    (run / "run.json").write_text(json.dumps(told))
    for act in (evaluate, lambda *args: segment(*args, resume=True)):
        with pytest.raises(ValueError, match=rf"run\.json is of an older format, without {lost}"):
            act(tiny, run)


def test_the_cost_is_estimated_before_the_run(tiny):
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", tiny)))
    assert cost.images == 24
    assert cost.parameters > 1000
    assert cost.seconds_per_image > 0
    assert "multiply-adds" in str(cost)


@pytest.mark.parametrize(
    ("precision", "half", "said"),
    [
        ("fp32", False, "this CPU in fp32"),
        ("bf16", True, "this CPU in bf16"),
        ("fp16", False, "this CPU in fp32"),
    ],
)
def test_the_cost_is_timed_in_the_precision_of_the_run(tiny, monkeypatch, precision, half, said):
    from mmseg.models.decode_heads import UPerHead

    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    types, forward = set(), UPerHead.forward

    def record(self, inputs):
        logits = forward(self, inputs)
        types.add(logits.dtype)
        return logits

    monkeypatch.setattr(UPerHead, "forward", record)
    options = [*tiny, f"precision={precision}"]
    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", options)))
    assert (torch.bfloat16 in types) == half
    assert said in str(cost)


def test_the_cost_of_a_weights_file_is_that_of_its_architecture(tiny, tmp_path):
    from tests.transfer.segmentation.test_model import encoder_file
    from transfer.segmentation.config import fill_in, load_config
    from transfer.segmentation.estimate import estimate

    encoder_file(tmp_path / "encoder.safetensors")
    options = [o for o in tiny if not o.startswith("arch")]
    options.append(f"weights={tmp_path / 'encoder.safetensors'}")
    cost = estimate(fill_in(load_config("configs/segmentation/custom.py", options)))
    assert cost.parameters > 11e6  # a ResNet-18
