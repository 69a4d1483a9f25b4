"""COCO evaluation: faster-coco-eval against pycocotools on a made-up problem of COCO's size."""

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_api

from transfer.detection.evaluation.coco_eval import ENGINES, coco_metrics

CLASSES = 80
OBJECTS_AN_IMAGE = 7.3  # COCO val2017: 36 781 objects on 5 000 images
TASKS = {"box": "bbox", "mask": "segm"}


@dataclass(frozen=True)
class Arguments:
    """The size of the problem; the defaults are COCO val2017, 100 detections per image."""

    images: int = 5000
    """Images of the ground truth."""
    detections: int = 500_000
    """Detections on all images."""
    side: int = 480
    """Pixels along an image's side."""
    seed: int = 0
    """Seed of the made-up problem."""


def run(args: Arguments) -> dict[str, Any]:
    """Return CPU seconds of both engines for boxes and masks, and whether their figures agree.

    CPU seconds of all threads, so that neither a busy machine nor a second core counts.
    """
    truth, found = problem(args.images, args.detections, args.side, args.seed)
    result: dict[str, Any] = {"images": args.images, "detections": len(found)}
    for name, task in TASKS.items():
        seconds, metrics = {}, {}
        for engine in ENGINES:
            own = copy.deepcopy(truth)  # both engines note results in it
            start = time.process_time()
            metrics[engine] = coco_metrics(own, found, tasks=(task,), engine=engine).metrics
            seconds[engine] = time.process_time() - start
        fast, slow = (metrics[engine] for engine in ENGINES)
        worst = max(abs(fast[k] - slow[k]) for k in slow)
        ratio = seconds[ENGINES[1]] / seconds[ENGINES[0]]
        result[name] = {"seconds": seconds, "ratio": ratio, "largest_difference": worst}
        print(
            f"{name:<5} {ENGINES[0]} {seconds[ENGINES[0]]:8.2f} s   {ENGINES[1]} "
            f"{seconds[ENGINES[1]]:8.2f} s   ratio {ratio:5.2f}   largest difference {worst:.1e}"
        )
    return result


def problem(
    images: int, detections: int, side: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth of ellipses, and detections: some shifted, some false."""
    rng = np.random.default_rng(seed)
    objects = round(images * OBJECTS_AN_IMAGE)
    truth = _things(rng, objects, rng.integers(0, images, objects), side)
    for number, thing in enumerate(truth, start=1):
        thing |= {"id": number, "iscrowd": 0}
    by_image = np.repeat(np.arange(images), detections // images)
    found = _things(rng, len(by_image), by_image, side)
    for source, thing in zip(truth, found[:: max(len(found) // len(truth), 1)], strict=False):
        shift = int(rng.integers(-6, 7))
        thing |= {k: source[k] for k in ("image_id", "category_id", "segmentation")}
        thing["bbox"] = [source["bbox"][0] + shift, *source["bbox"][1:]]
    for thing, score in zip(found, rng.random(len(found)).tolist(), strict=True):
        thing["score"] = score
    categories = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)]
    listed = [{"id": i, "width": side, "height": side, "file_name": ""} for i in range(images)]
    return {"images": listed, "annotations": truth, "categories": categories}, found


def _things(
    rng: np.random.Generator, count: int, image_ids: np.ndarray, side: int
) -> list[dict[str, Any]]:
    """Draw `count` objects: a box each, with one of 200 ellipses as its mask."""
    stencils = [_ellipse(rng, side) for _ in range(200)]
    chosen = rng.integers(0, len(stencils), count)
    classes = rng.integers(1, CLASSES + 1, count)
    return [
        {
            "image_id": int(image),
            "category_id": int(kind),
            "bbox": list(stencils[s]["bbox"]),
            "area": stencils[s]["area"],
            "segmentation": dict(stencils[s]["segmentation"]),
        }
        for image, kind, s in zip(image_ids, classes, chosen, strict=True)
    ]


def _ellipse(rng: np.random.Generator, side: int) -> dict[str, Any]:
    rows, columns = np.mgrid[:side, :side]
    ry, rx = np.exp(rng.uniform(np.log(side / 60), np.log(side / 4), 2))
    y, x = rng.uniform(ry, side - ry), rng.uniform(rx, side - rx)
    inside = ((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 <= 1
    code = mask_api.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {
        "bbox": mask_api.toBbox(code).tolist(),
        "area": int(inside.sum()),
        "segmentation": {"size": [side, side], "counts": code["counts"].decode()},
    }
