"""The readable images of a run, found once and remembered in its data.json."""

import json
import logging
import os
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from pretrain.data.sources import Images, digest, open_images, readable
from pretrain.files.write import atomic_write, remove_unfinished
from pretrain.run import folder

logger = logging.getLogger(__name__)

SHOW_PROGRESS_FROM = 10_000  # images


def checked_images(
    fabric: Fabric, data: Path, out: Path, resume: bool, skip_unreadable: bool
) -> Images:
    """The images, all of them readable. The first process checks; a resumed run trusts it.

    Clears what a killed process left half-written in `out`: this is the first use of the folder.
    """
    if fabric.is_global_zero:
        remove_unfinished(out)
    workers = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    images = open_images(data, workers)
    record = out / folder.DATA
    if fabric.is_global_zero and not resume:
        progress = "checking images" if len(images) > SHOW_PROGRESS_FROM else None
        good, skipped = readable(images, skip=skip_unreadable, workers=workers, progress=progress)
        for name in skipped[:10]:
            logger.warning("left out, unreadable: %s", name)
        if skipped:
            logger.warning("%d of %d images left out", len(skipped), len(images))
        facts = {"images": len(good), "names_sha256": digest(good), "skipped": skipped}
        atomic_write(record, lambda p: p.write_text(json.dumps(facts)))
    fabric.barrier()
    facts = json.loads(record.read_text())
    if facts["skipped"]:
        broken = set(facts["skipped"])
        images = images.subset(np.array([images.name(i) not in broken for i in range(len(images))]))
    if digest(images) != facts["names_sha256"]:
        raise ValueError(
            f"{data} holds other images than when the run in {out} began ({len(images)}, then "
            f"{facts['images']}): give back its data, or another --out"
        )
    return images
