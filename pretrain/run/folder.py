"""The folder of a run: whose it is, and whether it is finished.

recipe.json  data.json            what is being trained, and on what
state.pt  encoder_latest.safetensors      the last checkpoint
log.jsonl  tensorboard/           one line every few steps
reconstructions.png  encoder.safetensors  written last, in this order: a finished run
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE, DATA, STATE, LOG = "recipe.json", "data.json", "state.pt", "log.jsonl"


ENCODER, LATEST_ENCODER = "encoder.safetensors", "encoder_latest.safetensors"


PICTURE, TENSORBOARD, TOKENIZER = "reconstructions.png", "tensorboard", "tokenizer.safetensors"


def refuse_folder(out: Path, settings: Mapping[str, Any], resume: bool) -> bool:
    """Return whether `out` holds the finished run of `settings`.

    FileExistsError for an occupied folder without `resume`, ValueError for another run's folder.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file: give a folder")
    if not out.exists() or all(entry.name == DATA for entry in out.iterdir()):
        return False  # the data's check is written first; nothing was begun
    if not resume:
        raise FileExistsError(
            f"{out} is not empty: continue its run with --resume, or give another --out"
        )
    if not (out / RECIPE).is_file():
        if (out / STATE).is_file() or (out / ENCODER).is_file():
            raise ValueError(f"{out} holds a run without {RECIPE}: give another --out")
        return False
    begun = json.loads((out / RECIPE).read_text())
    changed = differences(begun, json.loads(json.dumps(settings)))
    if changed:
        raise ValueError(
            f"{out} holds a run with other settings ({'; '.join(changed)}): resume it with its "
            "own settings, or give another --out"
        )
    return (out / ENCODER).is_file()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Settings of two `to_json()` that differ and change the result: all but the `run` section."""
    found = []
    for name in sorted({*before, *after} - {"run"}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and name != "arch_args":
            found += differences(old, new)
        elif old != new:
            found.append(f"{name}: {old} -> {new}")
    return found
