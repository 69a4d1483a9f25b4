"""A disk that is full or fails while something is written: nothing is lost, and the run goes on."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.campaign.case import Case
from tests.campaign.weights import RUNS, run_of

# bytes of a file: more than logs and pictures have, less than a training state
ROOM = {"pretraining": 100_000, "detection": 400_000, "segmentation": 100_000}


def no_room(size: int) -> Callable[[], None]:
    """Let the kernel refuse to write more than `size` bytes to a file, whoever writes them."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def refused(name: str, call: str, spared: int = 0) -> Callable[[], None]:
    """Let the disk be full when the file `name` is put on it ("fsync") or named ("replace").

    The first `spared` times it is not.
    """
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fsync, replace = os.fsync, Path.replace
    calls = count()

    def fsync_or_not(handle: int) -> None:
        if f".{name}." in str(Path(f"/proc/self/fd/{handle}").readlink()) and next(calls) >= spared:
            raise full
        fsync(handle)

    def replace_or_not(path: Path, target: Any) -> Any:
        if Path(target).name == name and next(calls) >= spared:
            raise full
        return replace(path, target)

    def befall() -> None:
        if call == "fsync":
            os.fsync = fsync_or_not
        else:
            Path.replace = replace_or_not  # type: ignore[method-assign]

    return befall


AFTER = {  # written after the training
    "pretraining": ("reconstructions.png", "encoder.safetensors"),
    "detection": ("model_final.pth", "predictions.png", "result.json"),
    "segmentation": ("predictions.png", "result.json"),
}
EQUAL = {  # what the same command with --resume must then end in
    "pretraining": "encoder.safetensors",
    "detection": "result.json",
    "segmentation": "result.json",
}
LARGE, FULL = "File too large", "No space left on device"


def cases() -> Iterator[Case]:
    """Yield a case for each file of each run, and each moment of writing it."""
    for kind in RUNS:
        yield case(kind, "state-write", r"state\.pt", LARGE, no_room(ROOM[kind]))
        for call in ("fsync", "replace"):
            yield case(kind, f"state.pt-{call}", r"state\.pt", FULL, refused("state.pt", call))
        yield case(kind, "run.json-replace", r"run\.json", FULL, refused("run.json", "replace"))
        for name in AFTER[kind]:
            fault = refused(name, "replace")
            yield case(kind, f"{name}-replace", name, FULL, fault, trained=True)
        if kind != "pretraining":  # these save after each step
            fault = refused("state.pt", "replace", spared=1)
            yield case(kind, "second-state-replace", r"state\.pt", FULL, fault)
    latest = refused("encoder_latest.safetensors", "replace")
    yield case("pretraining", "latest-replace", r"encoder_latest\.safetensors", FULL, latest)
    # data processes must not keep a failed run from ending
    fault = no_room(ROOM["pretraining"])
    yield case("pretraining", "with-workers", r"state\.pt", LARGE, fault, workers=1)


def case(
    kind: str,
    name: str,
    file: str,
    reason: str,
    fault: Callable[[], None],
    *,
    trained: bool = False,
    workers: int = 0,
) -> Case:
    """Return the case of a fault in a new run, or in one that is trained and not yet evaluated."""
    tool, words, _ = RUNS[kind]
    new = words.replace("--resume ", "").replace(" --resume", "")
    return Case(
        f"full-disk-{kind}-{name}",
        tool,
        words if trained else new.replace("--workers 0", f"--workers {workers}"),
        f"{file} cannot be written: {reason}.*What was there is kept.*--resume",
        prepare=run_of(kind, lambda _: None) if trained else None,
        statuses=(1,),
        may_write=("out",),
        fault=fault,
        kept="out/state.pt" if trained else "",
        again=words,
        same=((f"{{w}}/{kind}/{EQUAL[kind]}", f"{{o}}/out/{EQUAL[kind]}"),),
    )
