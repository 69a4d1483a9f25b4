"""Figures of the encoder every few epochs of a pretraining, without a trace in the training."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pretrain.run.seeds import draws_kept

logger = logging.getLogger(__name__)

PROBED = "probed.safetensors"  # an encoder file, there while it is measured

Measure = Callable[[Path], Mapping[str, float]]  # an encoder file -> figures by name


@dataclass(frozen=True)
class Probe:
    """What is measured every so many epochs; the last epoch's encoder is left to tools/probe.py."""

    every: int
    measure: Measure

    def figures(self, write: Callable[[Path], None], folder: Path) -> dict[str, float]:
        """Return the figures of the encoder that `write` puts into a file, in `folder` meanwhile.

        What cannot be measured is said and left out: a long training does not end for it.
        """
        path = folder / PROBED
        try:
            with draws_kept():
                write(path)
                return dict(self.measure(path))
        except (ValueError, OSError) as error:
            logger.warning("the probe failed, the training goes on: %s", error)
            return {}
        finally:
            path.unlink(missing_ok=True)
