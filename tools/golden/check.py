"""A golden case -> the checks of its kind."""

from collections.abc import Callable

from . import classifiers, convnets, others
from .cases import Case, Check, kind_of

CHECKERS: dict[str, Callable[[Case], list[Check]]] = {
    "classifier": classifiers.check_classifier,
    "spark": convnets.check_spark,
    "fcmae": convnets.check_fcmae,
    "minkowski": convnets.check_minkowski,
    "beit": others.check_beit,
    "dalle": others.check_dalle,
    "lamb": others.check_lamb,
    "resize": others.check_resize,
}


def check_case(case: Case) -> list[Check]:
    """Recompute the case; one check a recorded quantity."""
    kind = kind_of(case)
    if kind == "segmentor":
        from .segmentors import check_segmentor  # MMSegmentation, which the others do not need

        return check_segmentor(case)
    if kind == "detector":
        from .detectors import check_detector  # Detectron2, likewise

        return check_detector(case)
    return CHECKERS[kind](case)
