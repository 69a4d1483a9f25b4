"""A disk that is full or fails while something is written: nothing is lost, and the run goes on."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.campaign.case import Case
from tests.campaign.weights import RUNS, run_of

# bytes of a file: more than logs and pictures have, less than a training state
ROOM = {"pretraining": 100_000, "detection": 400_000, "segmentation": 100_000}


def no_room(size: int) -> Callable[[], None]:
    """Let the kernel refuse to write more than `size` bytes to a file, whoever writes them."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def refused(name: str, call: str) -> Callable[[], None]:
    """Let the disk be full when the file `name` is put on it ("fsync") or named ("replace")."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fsync, replace = os.fsync, Path.replace

    def fsync_or_not(handle: int) -> None:
        if f".{name}." in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise full
        fsync(handle)

    def replace_or_not(path: Path, target: Any) -> Any:
        if Path(target).name == name:
            raise full
        return replace(path, target)

    def befall() -> None:
        if call == "fsync":
            os.fsync = fsync_or_not
        else:
            Path.replace = replace_or_not  # type: ignore[method-assign]

    return befall


# what a run writes -> is it written while the run trains, or after it
PRODUCTS = {
    "pretraining": {"encoder_latest.safetensors": True, "encoder.safetensors": False},
    "detection": {"model_final.pth": False, "predictions.png": False, "result.json": False},
    "segmentation": {"predictions.png": False, "result.json": False},
}
PRODUCTS["pretraining"]["reconstructions.png"] = False
EQUAL = {
    "pretraining": "encoder.safetensors",
    "detection": "result.json",
    "segmentation": "result.json",
}


def cases() -> Iterator[Case]:
    """Yield a case for each file of each run, and each moment of writing it."""
    for kind, (tool, words, _) in RUNS.items():
        fresh = words.replace("--resume ", "").replace(" --resume", "")
        same = ((f"{{w}}/{kind}/{EQUAL[kind]}", f"{{o}}/out/{EQUAL[kind]}"),)
        ends: dict[str, Any] = {
            "statuses": (1,),
            "may_write": ("out",),
            "again": words,
            "same": same,
        }
        told = r"{} cannot be written: {}.*What was there is kept.*--resume"
        large, full = "File too large", "No space left on device"
        yield Case(
            f"full-disk-{kind}-state-write",
            tool,
            fresh,
            told.format(r"state\.pt", large),
            fault=no_room(ROOM[kind]),
            **ends,
        )
        if kind == "pretraining":  # its data processes must not keep it from ending
            yield Case(
                "full-disk-pretraining-with-workers",
                tool,
                fresh.replace("--workers 0", "--workers 1"),
                told.format(r"state\.pt", large),
                fault=no_room(ROOM[kind]),
                **ends,
            )
        written = {"state.pt": True, "run.json": True, **PRODUCTS[kind]}
        for name, in_training in written.items():
            for call in ("fsync", "replace") if name == "state.pt" else ("replace",):
                after = {} if in_training else {"prepare": run_of(kind, lambda _: None)}
                yield Case(
                    f"full-disk-{kind}-{name}-{call}",
                    tool,
                    fresh if in_training else words,
                    told.format(name.replace(".", r"\."), full),
                    fault=refused(name, call),
                    kept="" if in_training else "out/state.pt",
                    **after,
                    **ends,
                )
