"""The folder of a run: its files, whose it is, whether it is finished, who writes in it.

run.json  data.json            what the run is; the images it found readable
state.pt                       the last checkpoint
log.jsonl  log.txt  tensorboard/
encoder.safetensors            what a pretraining ends in; written last
result.json                    what a transfer run ends in; written last
"""

import json
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from pretrain.files.write import atomic_write, refuse_file, remove_unfinished
from pretrain.run import lock

RUN, DATA, STATE = "run.json", "data.json", "state.pt"
LOG, TEXT_LOG, TENSORBOARD = "log.jsonl", "log.txt", "tensorboard"
ENCODER, LATEST_ENCODER = "encoder.safetensors", "encoder_latest.safetensors"
EPOCH_ENCODER = "encoder_epoch_{:04}.safetensors"  # after that many epochs
TOKENIZER, PICTURE = "tokenizer.safetensors", "reconstructions.png"
RECORD, PREDICTIONS_PICTURE = "result.json", "predictions.png"

Progress = Literal["new", "resume", "finished"]


class RunFolder:
    """The folder of one run, which ends in the file `product`.

    `free` names the settings at the top level that a resumed run may change.
    """

    def __init__(self, path: Path, product: str, free: Collection[str] = ()) -> None:
        self.path, self.product, self.free = Path(path), product, free

    @property
    def finished(self) -> bool:
        """Return whether the run's last file exists and is complete."""
        return is_whole(self.path / self.product)

    def lock(self, first: bool = True) -> AbstractContextManager[None]:
        """Hold the folder while this process writes in it; of several, the first holds it.

        Raises ValueError if another process does. A folder that stays empty is removed again.
        """
        return lock.locked(self.path) if first else nullcontext()

    def require_free(self, resume: bool) -> None:
        """Raise ValueError for a file, and without `resume` for a folder in use."""
        refuse_file(self.path)
        if not resume and self._in_use():
            raise ValueError(
                f"{self.path} is not empty: continue its run with --resume, or give another folder"
            )

    def require_same_run(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError if the folder holds the run of other settings."""
        if not (self.path / RUN).is_file():
            if (self.path / STATE).is_file() or self.finished:
                raise ValueError(f"{self.path} holds a run without {RUN}: give another folder")
            return
        changed = differences(self.settings(), json.loads(json.dumps(settings)), self.free)
        if changed:
            raise ValueError(
                f"{self.path} holds a run with other settings ({'; '.join(changed)}): resume it "
                "with its own settings, or give another folder"
            )

    def open(self, settings: Mapping[str, Any], resume: bool) -> Progress:
        """Return "new", "resume" or "finished" for the run of `settings`.

        Nothing is written. Raises ValueError for a file, a folder in use without `resume`, or
        another run's folder.
        """
        self.require_free(resume)
        if not self._in_use():
            return "new"
        self.require_same_run(settings)
        if self.finished:
            return "finished"
        return "resume" if (self.path / STATE).is_file() else "new"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Record which run the folder holds, after all checks have passed.

        Removes what a killed process left half-written.
        """
        remove_unfinished(self.path)
        text = json.dumps(settings, indent=1)
        atomic_write(self.path / RUN, lambda path: path.write_text(text + "\n"))

    def settings(self) -> dict[str, Any]:
        """Return the settings the run began with. Raises ValueError if they cannot be read."""
        return read_json(self.path / RUN)

    def _in_use(self) -> bool:
        """Return whether a run was begun here; the check of the images comes earlier."""
        if not self.path.is_dir():
            return False
        return any(entry.name not in (DATA, *lock.NAMES) for entry in self.path.iterdir())


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object. Raises ValueError with the file's name otherwise."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return content


def is_whole(path: Path) -> bool:
    """Return whether a run's last file exists, and is neither empty nor cut short."""
    if not path.is_file():
        return False
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="np") as tensors:
                return len(tensors.keys()) > 0
        return bool(read_json(path))
    except (SafetensorError, OSError, ValueError):
        return False


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], free: Collection[str] = ()
) -> list[str]:
    """List what differs between two nested settings, as "name: before -> after"."""
    found = []
    for name in sorted({*before, *after} - {*free}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and name != "arch_args":
            found += [f"{name}.{line}" for line in differences(old, new)]
        elif old != new:
            found.append(f"{name}: {old!r} -> {new!r}")
    return found
