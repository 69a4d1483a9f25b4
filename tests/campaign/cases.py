"""All cases."""

from itertools import chain

from tests.campaign import annotations, images, records, settings, weights
from tests.campaign.case import Case


def all_cases() -> list[Case]:
    """Return every case; names differ."""
    found = list(
        chain(
            settings.cases(), images.cases(), annotations.cases(), weights.cases(), records.cases()
        )
    )
    assert len({case.name for case in found}) == len(found)
    return found
