"""The training loop on the smallest training there is: what a step does, what ends a run."""

import json
import math
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from pretrain.files.training_state import read_state
from pretrain.files.write import WriteError
from pretrain.run import folder
from pretrain.run.log import TIMED
from pretrain.run.loop import Loop
from pretrain.run.precision import Autocast
from pretrain.run.processes import launch
from pretrain.run.stop import NotFiniteError, Stopped
from tests.processes import start_two
from tests.small_training import BATCH, LineFit, settings


def arranged(
    out: Path,
    *,
    resume: bool = False,
    fabric: Fabric | None = None,
    lr: float = 0.1,
    **changes: Any,
) -> Loop:
    fabric = fabric or launch("cpu", "fp32")
    chosen = settings(**changes)
    return Loop(fabric, LineFit(fabric, chosen, lr), chosen, out, resume)


def fit_of(loop: Loop) -> LineFit:
    assert isinstance(loop.trainee, LineFit)
    return loop.trainee


def trained(out: Path, **changes: Any) -> Loop:
    loop = arranged(out, **changes)
    loop.run()
    return loop


def weights(loop: Loop) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in loop.trained.parameters()])


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / folder.LOG).read_text().splitlines()]


def untimed(out: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines(out)]


def state(out: Path) -> dict[str, Any]:
    return read_state(out / folder.STATE, "line fit")


def no_dropout(loop: Loop) -> Loop:
    loop.trainee.model[1].p = 0.0  # type: ignore[index,assignment,union-attr]
    return loop


def test_passes_together_are_one_step(tmp_path: Path) -> None:
    one, two = (
        no_dropout(arranged(tmp_path / str(n), accumulation_steps=n, clip_norm=0.5)) for n in (1, 2)
    )
    one.run()
    two.run()
    torch.testing.assert_close(weights(one), weights(two))
    for a, b in zip(untimed(tmp_path / "1"), untimed(tmp_path / "2"), strict=True):
        assert b.pop("seen") == 2 * a.pop("seen")
        assert a == pytest.approx(b)


def test_every_pass_draws_by_its_own_seed(tmp_path: Path) -> None:
    one, other = (
        fit_of(trained(tmp_path / name, accumulation_steps=2)).draws for name in ("one", "other")
    )
    assert len(set(one)) == len(one) == 20
    assert one == other


def test_gradients_are_clipped_together_and_logged_as_they_were(tmp_path: Path) -> None:
    loop = arranged(tmp_path, steps=1, lr=1.0, clip_norm=0.01)
    before = weights(loop).clone()
    loop.run()
    assert (weights(loop) - before).norm() == pytest.approx(0.01, rel=1e-3)
    (line,) = lines(tmp_path)
    assert line["gradient_norm"] > 0.1
    assert 0 < line["gradient_norm_first"] < line["gradient_norm"]


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    loop = arranged(tmp_path, ema_decay=0.75)
    expected = weights(loop).clone()
    step = loop.train_step

    def train_step(number: int, batches: Any) -> None:
        nonlocal expected
        step(number, batches)
        now = torch.cat([p.detach().flatten() for p in loop.trainee.model.parameters()])
        expected = 0.75 * expected + 0.25 * now

    loop.train_step = train_step  # type: ignore[method-assign]
    loop.run()
    torch.testing.assert_close(weights(loop), expected)


def test_a_line_holds_the_means_since_the_last_one(tmp_path: Path) -> None:
    every, third = tmp_path / "every", tmp_path / "third"
    trained(every, log_steps=1)
    trained(third, log_steps=3)
    losses = [line["loss"] for line in lines(every)]
    found = lines(third)
    assert [line["step"] for line in found] == [3, 6, 9, 10]
    assert [line["seen"] for line in found] == [3, 3, 3, 1]
    means = [sum(losses[i : i + 3]) / len(losses[i : i + 3]) for i in (0, 3, 6, 9)]
    assert [line["loss"] for line in found] == pytest.approx(means)
    assert all(line["images_per_second"] > 0 <= line["data_share"] <= 1 for line in found)
    assert found[0]["peak_memory_mib"] > 10


@pytest.mark.parametrize("at", [1, 5, 9])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_broken_run_ends_as_an_unbroken_one(
    tmp_path: Path, at: int, ema_decay: float | None
) -> None:
    whole = trained(tmp_path / "whole", ema_decay=ema_decay)
    broken = arranged(tmp_path / "broken", ema_decay=ema_decay)
    fit_of(broken).factor = {at: math.nan}  # noticed later, and not saved
    with pytest.raises(NotFiniteError):
        broken.run()
    again = trained(tmp_path / "broken", ema_decay=ema_decay, resume=True)
    assert torch.equal(weights(whole), weights(again))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "broken")
    assert state(tmp_path / "whole")["values"] == state(tmp_path / "broken")["values"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_ends_the_run_in_one_sentence_and_the_run_goes_on(tmp_path: Path) -> None:
    """The log, or its curves, are the first that there is no room for."""
    sizes = {"log_steps": 1, "checkpoint_steps": 10}
    whole = trained(tmp_path / "whole", **sizes)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(WriteError, match=r"(log|tensorboard)\S* cannot be written: File too"):
            trained(tmp_path / "broken", **sizes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = trained(tmp_path / "broken", resume=True, **sizes)
    assert torch.equal(weights(whole), weights(again))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "broken")


def test_a_loss_that_is_not_finite_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    loop = arranged(tmp_path, log_steps=5)
    fit_of(loop).factor = {6: math.inf}
    with pytest.raises(NotFiniteError) as error:
        loop.run()
    said = str(error.value)
    assert said.startswith("step 7: loss is inf")
    assert f"{tmp_path / folder.STATE}, after step 4" in said
    assert [f"image 6.{i}" in said for i in range(BATCH)] == [True] * BATCH
    assert said.endswith("lower lr")
    assert [line["step"] for line in lines(tmp_path)] == [5]
    assert (tmp_path / folder.TEXT_LOG).read_text().endswith(f"{said}\n")
    assert state(tmp_path)["step"] == 4


def test_the_last_update_is_checked_though_no_loss_shows_it(tmp_path: Path) -> None:
    loop = arranged(tmp_path)
    fit_of(loop).rate = {9: math.inf}
    with pytest.raises(NotFiniteError, match=r"step 10: .*update"):
        loop.run()
    assert state(tmp_path)["step"] == 8


def test_a_signal_saves_and_ends_and_the_run_goes_on(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    loop = arranged(tmp_path / "stopped")
    fit_of(loop).signal_at = 4
    with pytest.raises(Stopped) as stopped:
        loop.run()
    assert stopped.value.code == 128 + signal.SIGTERM
    assert state(tmp_path / "stopped")["step"] == 5
    again = trained(tmp_path / "stopped", resume=True)
    assert torch.equal(weights(whole), weights(again))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "stopped")


def test_a_signal_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    loop = arranged(tmp_path)
    fit_of(loop).signal_at = 9
    loop.run()
    assert state(tmp_path)["step"] == 10


def test_interim_results_come_between_not_at_the_end(tmp_path: Path) -> None:
    assert fit_of(trained(tmp_path, interim_steps=5)).interim_steps == [5]
    assert fit_of(trained(tmp_path / "more", interim_steps=4)).interim_steps == [4, 8]


def test_the_last_states_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, checkpoint_steps=2, keep_states=3)
    names = {path.name for path in tmp_path.glob("state*.pt")}
    assert names == {"state.pt", "state-6.pt", "state-8.pt"}
    assert read_state(tmp_path / "state-6.pt", "line fit")["step"] == 6
    assert state(tmp_path)["step"] == 10


def test_a_state_of_another_kind_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)

    class Other(LineFit):
        kind = "another"

    fabric = launch("cpu", "fp32")
    with pytest.raises(ValueError, match="the state of a line fit run, expected another"):
        Loop(fabric, Other(fabric, settings()), settings(), tmp_path, resume=True)


def half(scale: float = 65536.0) -> Fabric:
    """fp16 with a scaled loss, which Fabric itself offers on GPUs only."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=4)
    return Fabric(accelerator="cpu", devices=1, plugins=[Autocast("16-mixed", "cpu", scaler)])


def test_fp16_skips_a_step_whose_scaled_gradient_overflows(tmp_path: Path) -> None:
    loop = arranged(tmp_path, fabric=half(), log_steps=1, checkpoint_steps=1, steps=4)
    assert loop.scaler is not None
    loop.scaler.load_state_dict({**loop.scaler.state_dict(), "scale": 2.0**40})
    before = weights(loop).clone()
    fit_of(loop).signal_at = 0  # look after the first step
    with pytest.raises(Stopped):
        loop.run()
    assert torch.equal(weights(loop), before)
    (line,) = lines(tmp_path)
    assert line["skipped_steps"] == 1
    assert line["loss_scale"] == 2.0**39
    again = arranged(tmp_path, fabric=half(), log_steps=1, steps=4, resume=True)
    assert again.scaler is not None
    assert again.scaler.get_scale() == 2.0**39


def test_fp16_learns_and_unscales_before_it_clips(tmp_path: Path) -> None:
    exact = no_dropout(arranged(tmp_path / "exact", clip_norm=0.5))
    scaled = no_dropout(arranged(tmp_path / "scaled", fabric=half(256.0), clip_norm=0.5))
    exact.run()
    scaled.run()
    torch.testing.assert_close(weights(exact), weights(scaled), atol=2e-2, rtol=2e-2)
    norms = [[line["gradient_norm"] for line in lines(tmp_path / n)] for n in ("exact", "scaled")]
    assert norms[0] == pytest.approx(norms[1], rel=2e-2)
    assert sum(line["skipped_steps"] for line in lines(tmp_path / "scaled")) == 0


def test_fp16_ends_where_no_scale_is_small_enough(tmp_path: Path) -> None:
    loop = arranged(tmp_path, fabric=half(), steps=60, log_steps=60, checkpoint_steps=60)
    assert loop.scaler is not None
    loop.scaler.load_state_dict({**loop.scaler.state_dict(), "scale": 4.0})
    fit_of(loop).factor = dict.fromkeys(range(60), 1e30)
    with pytest.raises(NotFiniteError, match="the scale of the loss fell to"):
        loop.run()


def test_two_processes_agree_to_stop_and_go_on(tmp_path: Path) -> None:
    """One of them gets the signal; they stop where they meet, at a line of the log."""
    script = "tests/small_training.py"
    said = start_two("torchrun", [script, tmp_path / "two", 4, "new"])
    assert "stopped with 143 after step 6" in said
    assert "trained to step 6" in said
    assert "trained to step 10" in start_two("torchrun", [script, tmp_path / "two", -1, "resume"])
    assert "trained to step 10" in start_two("srun", [script, tmp_path / "whole", -1, "new"])
    assert untimed(tmp_path / "two") == untimed(tmp_path / "whole")
    for name in ("model", "optimizer"):
        one, other = (str(state(tmp_path / n)[name]) for n in ("two", "whole"))
        assert one == other
