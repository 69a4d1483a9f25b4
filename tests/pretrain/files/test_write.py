"""A file is written whole or not at all, and what the disk refuses is one sentence."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pretrain.files.write import WriteError, atomic_write, write_safetensors

ROOM = 20_000  # bytes


@contextmanager
def no_room() -> Iterator[None]:
    """Let the kernel refuse to write more than ROOM bytes to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda path: torch.save({"a": torch.zeros(ROOM)}, path),
    "safetensors": lambda path: write_safetensors(path, {"a": torch.zeros(ROOM)}),
    "text": lambda path: path.write_text("x" * 2 * ROOM),
    "png": lambda path: Image.effect_noise((300, 300), 90).save(path, "png"),
    "jpeg": lambda path: Image.effect_noise((900, 900), 90).save(path, "jpeg"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_there_is_no_room_for_leaves_the_file_as_it_was(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_text("good")
    with no_room(), pytest.raises(WriteError) as raised:
        atomic_write(path, WRITERS[kind])
    assert raised.value.errno == errno.EFBIG
    assert str(raised.value) == (
        f"{path} cannot be written: File too large. What was there is kept; raise the largest size "
        "of a file (ulimit -f), then give the command again (a run goes on with --resume)"
    )
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]
    atomic_write(path, WRITERS[kind])
    assert path.stat().st_size > ROOM


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_last_moment(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "result.json"
    path.write_text("good")
    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(WriteError, match=r"result\.json .*No space left on device.*make room"):
        atomic_write(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_content_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a tensor"):
        atomic_write(tmp_path / "a", lambda _: (_ for _ in ()).throw(TypeError("a tensor")))
    with pytest.raises(RuntimeError, match="of another kind"):
        atomic_write(
            tmp_path / "a", lambda _: (_ for _ in ()).throw(RuntimeError("of another kind"))
        )
    assert not list(tmp_path.iterdir())
