"""All cases."""

from itertools import chain

from tests.campaign import (
    annotations,
    archives,
    endings,
    faults,
    images,
    records,
    settings,
    weights,
)
from tests.campaign.case import Case


def all_cases() -> list[Case]:
    """Return every case; names differ."""
    modules = (settings, images, annotations, weights, records, endings, faults, archives)
    found = list(chain.from_iterable(module.cases() for module in modules))
    assert len({case.name for case in found}) == len(found)
    return found
