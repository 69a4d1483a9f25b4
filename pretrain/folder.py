"""The folder of a run: whose it is, and whether it is finished.

recipe.json  data.json            what is being trained, and on what
state.pt  encoder_latest.safetensors      the last checkpoint
log.jsonl  tensorboard/           one line every few steps
reconstructions.png  encoder.safetensors  written last, in this order: a finished run
"""

import json
from pathlib import Path

from pretrain.config import Recipe, differences

RECIPE, DATA, STATE, LOG = "recipe.json", "data.json", "state.pt", "log.jsonl"
ENCODER, LATEST_ENCODER = "encoder.safetensors", "encoder_latest.safetensors"
PICTURE, TENSORBOARD, TOKENIZER = "reconstructions.png", "tensorboard", "tokenizer.safetensors"


def refuse_folder(out: Path, recipe: Recipe, resume: bool) -> bool:
    """Whether `out` holds the finished run of `recipe`; raises if the folder cannot be used.

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
    changed = differences(begun, json.loads(json.dumps(recipe.to_json())))
    if changed:
        raise ValueError(
            f"{out} holds a run with other settings ({'; '.join(changed)}): resume it with its "
            "own settings, or give another --out"
        )
    return (out / ENCODER).is_file()
