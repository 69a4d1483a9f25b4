"""How hard scenes are: which classes there are, how many objects, how large, how much clutter.

hard     nine classes told apart by outline and surface together, small objects, clutter that
         shares one of the two with them
easy     three classes told apart by outline alone, larger objects, little clutter of other
         outlines: a detector learns them in a minute of one core
"""

from dataclasses import dataclass

from transfer.datasets.shapes.outlines import OUTLINES
from transfer.datasets.shapes.textures import BACKGROUNDS, SURFACES

STUFF_CLASSES = tuple(BACKGROUNDS)
CLASS_COUNTS = tuple(len(OUTLINES) * count for count in range(1, len(SURFACES) + 1))  # 3, 6, 9


@dataclass(frozen=True)
class Level:
    """What is drawn on the backgrounds. Ranges hold both ends; radii are shares of the side.

    With as many classes as outlines the surface says nothing of the class; with n times as many,
    the first n surfaces do.
    """

    classes: int  # one of CLASS_COUNTS
    objects: tuple[int, int]
    clutter: tuple[int, int]
    radius: float  # smallest of an object
    clutter_radius: float = 0.05  # smallest of a piece of clutter

    def __post_init__(self) -> None:
        if self.classes not in CLASS_COUNTS:
            listed = ", ".join(map(str, CLASS_COUNTS))
            raise ValueError(f"classes must be one of {listed}, got {self.classes}")

    @property
    def by_outline(self) -> bool:
        """Return whether the outline alone makes the class."""
        return self.classes == len(OUTLINES)

    @property
    def things(self) -> tuple[str, ...]:
        """Return the classes of objects: "disc", or "striped disc"."""
        if self.by_outline:
            return tuple(OUTLINES)
        surfaces = tuple(SURFACES)[: self.classes // len(OUTLINES)]
        return tuple(f"{surface} {outline}" for surface in surfaces for outline in OUTLINES)


EASY = Level(classes=3, objects=(2, 4), clutter=(0, 2), radius=0.13)
HARD = Level(classes=9, objects=(2, 6), clutter=(1, 4), radius=0.08)
LEVELS = {"easy": EASY, "hard": HARD}


def segmentation_classes(classes: int) -> tuple[str, ...]:
    """Return the classes of a label map: label i + 1 is the i-th of them, 0 is other.

    Raises ValueError for a number of object classes that no level has.
    """
    return STUFF_CLASSES + Level(classes, (1, 1), (0, 0), 0.1).things
