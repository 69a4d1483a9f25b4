"""The end of a run is tried before it, and the run is the same as without."""

import errno
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pretrain.run.stop import FailedError
from pretrain.run.trial import trial


def network() -> nn.Module:
    """Return a network in training mode but for one part, as a frozen stage is."""
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    made[2].eval()
    return made


def draws() -> tuple[float, ...]:
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_what_is_drawn_and_what_a_network_holds_is_as_without_a_trial():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    expected = draws()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    model = network()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    with trial(model, "advice") as folder:
        draws()
        model.train()
        model(torch.ones(5, 3))  # moves BatchNorm's statistics
        model.eval()
        (folder / "result.json").write_text("{}")
    assert draws() == expected
    assert [part.training for part in (model, *model)] == [True, True, True, False]
    assert model[1].running_mean.eq(0).all()
    assert model[1].num_batches_tracked == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError(), "fails: AssertionError in test_trial.py, line "),
        (RuntimeError("no size\nmore"), "fails: RuntimeError: no size. Change it"),
        (ValueError("a.png: broken."), "fails: a.png: broken. Change it; nothing was trained yet"),
        (FailedError("b.png"), "fails: b.png. Change it"),
        (MemoryError(), "fails: MemoryError in test_trial.py, line "),
    ],
)
def test_what_fails_is_one_sentence_and_leaves_nothing(error, said):
    folders = list[Path]()

    def fail() -> None:
        with trial(network(), "Change it") as folder:
            folders.append(folder)
            raise error

    with pytest.raises(ValueError, match="tried on 2 validation images") as raised:
        fail()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not folders[0].exists()


def test_a_full_disk_and_a_signal_are_not_taken_for_a_wrong_setting():
    for error in (OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(error)), trial(network(), "advice"):
            raise error
