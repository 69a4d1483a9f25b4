"""Checks of one COCO annotation: its box, and its polygons or run lengths."""

import math
from typing import Any

from pretrain.checks.findings import Findings
from transfer.datasets.coco_file import is_polygon

OUTSIDE_PX = 2.0  # rounding of a correct export stays within this
OUTSIDE_SHARE = 0.1  # of the image's side: published annotations stay within, wrong units do not


class Units:
    """Whether the boxes, and the polygons, of a file are in pixels or in shares of the sides."""

    def __init__(self) -> None:
        self._in_pixels: dict[str, bool] = {}  # by what was met: whether one reaches beyond 1

    def note(self, annotation: dict[str, Any]) -> None:
        """Look at one annotation."""
        mask = annotation.get("segmentation")
        polygons = mask if isinstance(mask, list) else []
        for name, numbers in (("box", annotation["bbox"]), *(("polygon", p) for p in polygons)):
            if not self._in_pixels.get(name) and numbers and _numbers(numbers):
                self._in_pixels[name] = max(numbers) > 1

    def check(self, where: object, findings: Findings) -> None:
        """Find a file in which nothing reaches beyond the first pixel."""
        for name in (name for name, in_pixels in self._in_pixels.items() if not in_pixels):
            message = f"no {name} reaches beyond 1: they are shares of the sides, not pixels"
            fix = "multiply x by the image's width and y by its height"
            findings.error(f"{name}-outside", where, message, fix)


def check_annotation(
    annotation: dict[str, Any], width: int, height: int, where: str, findings: Findings
) -> None:
    """Check the box and the mask of `annotation` in an image of width x height pixels."""
    _check_box(annotation["bbox"], width, height, where, findings)
    mask = annotation.get("segmentation")
    if not mask:
        fix = "add the mask; a detector without masks can allow `mask-missing`"
        findings.error("mask-missing", where, "no segmentation", fix)
    elif isinstance(mask, list):
        _check_polygons(mask, width, height, where, findings)
    elif isinstance(mask, dict):
        _check_run_lengths(mask, width, height, where, findings)
    else:
        fix = "write polygons [[x, y, ...], ...] or {size: [h, w], counts: ...}"
        findings.error("mask-format", where, f"segmentation is a {type(mask).__name__}", fix)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int | float) and math.isfinite(v) for v in values
    )


def _check_box(box: Any, width: int, height: int, where: str, findings: Findings) -> None:
    if not _numbers(box) or len(box) != 4:
        fix = "write the box as four finite numbers [x, y, width, height] in pixels"
        findings.error("box-format", where, f"box {box!r}", fix)
        return
    x, y, w, h = box
    if w < 0 or h < 0:
        fix = "write [x, y, width, height], not the two corners"
        findings.error("box-invalid", where, f"box {box} has a negative side", fix)
    elif w == 0 or h == 0:  # COCO 2017 has such boxes itself
        findings.warning("box-empty", where, f"box {box} is empty", "delete it: training skips it")
    else:
        fix = "clip it; are these [x, y, width, height] in pixels of this image?"
        edges = (x, y, x + w, y + h)
        _check_edges("box", f"box {box}", edges, (width, height), fix, where, findings)


def _check_edges(
    code: str,
    name: str,
    edges: tuple[float, float, float, float],
    size: tuple[int, int],
    fix: str,
    where: str,
    findings: Findings,
) -> None:
    """Report an error for edges far outside the image; training clips small excesses.

    edges: left, top, right, bottom; size: the image's width and height; all in pixels.
    """
    width, height = size
    beyond = (-edges[0], -edges[1], edges[2] - width, edges[3] - height)
    if max(beyond) <= OUTSIDE_PX:
        return
    message = f"{name} leaves the image of {width}x{height} by {max(beyond):.1f} pixels"
    if max(beyond[0], beyond[2]) > OUTSIDE_SHARE * width or (
        max(beyond[1], beyond[3]) > OUTSIDE_SHARE * height
    ):
        findings.error(f"{code}-outside", where, message, fix)
    else:
        findings.warning(f"{code}-over-edge", where, message, "clip it, as training does")


def _check_polygons(
    polygons: list[Any], width: int, height: int, where: str, findings: Findings
) -> None:
    for polygon in polygons:
        told, form = f"polygon {str(polygon)[:60]}", "[x1, y1, x2, y2, x3, y3, ...]"
        if not _numbers(polygon):
            fix = f"a polygon is a flat list {form} of three points or more"
            findings.error("polygon-invalid", where, told, fix)
            continue
        if not is_polygon(polygon):  # as Detectron2
            fix = f"three points or more are needed, {form}: training leaves it out"
            findings.warning("polygon-short", where, told, fix)
            continue
        xs, ys = polygon[0::2], polygon[1::2]
        edges = (min(xs), min(ys), max(xs), max(ys))
        fix = "clip it; are its points in pixels of this image?"
        _check_edges("polygon", "a polygon", edges, (width, height), fix, where, findings)


def _check_run_lengths(
    mask: dict[str, Any], width: int, height: int, where: str, findings: Findings
) -> None:
    size, counts = mask.get("size"), mask.get("counts")
    if size != [height, width]:
        message = f"mask of size {size}, the image is {height} high and {width} wide"
        fix = "encode the mask at the image's size, [height, width]"
        findings.error("mask-size", where, message, fix)
        return
    try:
        runs = run_lengths(counts)
    except (TypeError, ValueError) as error:
        findings.error("mask-format", where, f"run lengths: {error}", "encode the mask again")
        return
    if min(runs, default=0) < 0:
        message = f"a run of {min(runs)} pixels"
        findings.error("mask-format", where, message, "encode the mask again")
    elif sum(runs) != height * width:
        message = f"run lengths cover {sum(runs)} of {height * width} pixels"
        findings.error("mask-format", where, message, "encode the mask again")
    elif sum(runs[1::2]) == 0:
        findings.warning("mask-empty", where, "the mask has no pixel", "delete the annotation")


def run_lengths(counts: Any) -> list[int]:
    """Return the run lengths of a COCO mask, zeros first; a list unchanged, a string decoded.

    Six bits a character from "0" on: five of the number, lowest first, and whether more follow;
    from the fourth run on the number is the difference from the run two before (cocoapi,
    common/maskApi.c). pycocotools decodes a cut-off string to whatever was in memory.
    Raises ValueError if the string is cut off or has a character that does not belong there.
    """
    if isinstance(counts, list):
        return [int(run) for run in counts]
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else bytes(counts):
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {chr(character)!r} does not belong there")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("cut off in the middle of a number")
    return runs
