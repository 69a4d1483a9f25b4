"""The images of a run, remembered in its data.json."""

import json
import logging
from pathlib import Path

from lightning_fabric import Fabric

from pretrain.data.readable import readable, without
from pretrain.data.sources import Images, digest, open_images
from pretrain.data.turns import Turns
from pretrain.files.write import atomic_write, remove_unfinished
from pretrain.run import folder
from pretrain.run.processes import available_cores

logger = logging.getLogger(__name__)

SHOW_PROGRESS_FROM = 10_000  # images


def checked_images(
    fabric: Fabric, data: Path, out: Path, resume: bool, skip_unreadable: bool, check: bool = False
) -> Images:
    """Return the images of the run in `out`; every process calls it.

    With `check` or `skip_unreadable`, the first process reads all of them before, and refuses or
    leaves out what cannot be read; a resumed run trusts that. Otherwise what cannot be read turns
    up while training. Clears what a killed process left half-written in `out`: this is the first
    use of the folder.
    Raises ValueError if a resumed run finds other images than it began with.
    """
    turns = Turns(fabric)
    if fabric.is_global_zero:
        remove_unfinished(out)
    cores = available_cores()  # the other processes wait
    images = turns.in_order(lambda: open_images(data, cores))
    record = out / folder.DATA
    begins = fabric.is_global_zero and not resume
    turns.take(
        begins,
        lambda: _begin(images, record, skip_unreadable, check or skip_unreadable, cores),
    )
    facts = folder.read_json(record)
    if not {"images", "names_sha256", "skipped"} <= facts.keys():
        raise ValueError(f"{record} does not say which images the run has: give another --out")
    images = without(images, facts["skipped"])
    if digest(images) != facts["names_sha256"]:
        raise ValueError(
            f"{data} holds other images than when the run in {out} began ({len(images)}, then "
            f"{facts['images']}): give back its data, or another --out"
        )
    return images


def _begin(images: Images, record: Path, skip: bool, check: bool, workers: int) -> None:
    """Read the images if that is asked for, and note which ones the run is of."""
    skipped: list[str] = []
    if check:
        progress = "checking images" if len(images) > SHOW_PROGRESS_FROM else None
        total = len(images)
        images, skipped = readable(images, skip=skip, workers=workers, progress=progress)
        for name in skipped[:10]:
            logger.warning("left out, unreadable: %s", name)
        if skipped:
            logger.warning("%d of %d images left out", len(skipped), total)
    facts = {"images": len(images), "names_sha256": digest(images), "skipped": skipped}
    atomic_write(record, lambda path: path.write_text(json.dumps(facts)))
