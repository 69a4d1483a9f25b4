"""Classes by name or by number -> labels."""

from collections.abc import Sequence

import numpy as np

Labels = tuple[np.ndarray, tuple[str, ...]]  # (n,) int64, and the classes they number


def by_name(labels: Sequence[str]) -> Labels:
    """Return labels that number the classes in the order of their names."""
    classes, numbers = np.unique(np.array(labels, dtype=np.str_), return_inverse=True)
    return numbers.astype(np.int64), tuple(map(str, classes))


def by_number(labels: Sequence[str], names: Sequence[str] = ()) -> Labels:
    """Return labels that are numbers as they are, classes by `names` if given; others by name.

    Raises ValueError for a number that has no name.
    """
    if not all(label.isdecimal() for label in labels):
        return by_name(labels)
    values = np.array(labels, dtype=np.int64)
    classes = tuple(names) or tuple(map(str, range(int(values.max()) + 1)))
    if values.max() >= len(classes):
        raise ValueError(f"there are {len(classes)} names of classes, and a class {values.max()}")
    return values, classes
