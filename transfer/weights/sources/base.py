"""What a source is: a layout's name, how its keys are recognised, and its way to timm names."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

NameTable = Sequence[tuple[str, str]]  # (pattern, replacement), applied one after the other
Left = Sequence[tuple[str, str]]  # (pattern at the start of a name, why it is left out)
CLASSIFIER = "classifier"
FINAL_NORM = re.compile(r"(norm|fc_norm|head\.norm)\.(weight|bias)$")


@dataclass(frozen=True)
class Raw:
    """A file's state dict and what lay around it."""

    file: str
    tensors: dict[str, Tensor]
    containers: tuple[str, ...] = ()  # the keys it was found under, outermost first
    beside: tuple[str, ...] = ()  # other top-level entries
    notes: dict[str, Any] = field(default_factory=dict)  # plain entries that say where it is from
    not_tensors: tuple[str, ...] = ()  # names in the state dict that hold something else

    def has(self, pattern: str) -> bool:
        """Return whether any tensor's name begins with `pattern` (a regular expression)."""
        return any(re.match(pattern, name) for name in self.tensors)


@dataclass(frozen=True)
class Renamed:
    """Tensors in timm's names, where each came from, and what was left out."""

    tensors: dict[str, Tensor]
    origin: dict[str, str]  # timm name -> the file's
    unused: dict[str, str]  # the file's name -> why


@dataclass(frozen=True)
class Source:
    """A layout. `recognise` gives the reason, or None; `convert` raises WeightsError."""

    name: str
    describes: str
    method: str  # for the identity: how the encoder was trained
    recognise: Callable[[Raw], str | None]
    convert: Callable[[Raw], Renamed]
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    other_pixels: str = ""  # which files of this layout were trained with other statistics


def rename(
    tensors: Mapping[str, Tensor],
    names: NameTable = (),
    *,
    prefix: str = "",
    left: Left = (),
    rule: Callable[[str, Tensor], Tensor] | None = None,
) -> Renamed:
    """Apply a name table to the tensors under `prefix` (a regular expression).

    `left` names what is left out, before the prefix is removed; `rule` changes values, by the new
    name. A name without a rule is kept and later reported as unknown.
    Raises ValueError if two tensors would get the same name.
    """
    out: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unused: dict[str, str] = {}
    for name, tensor in tensors.items():
        why = next((why for pattern, why in left if re.match(pattern, name)), None)
        if why is not None:
            unused[name] = why
            continue
        new = re.sub(f"^(?:{prefix})", "", name) if prefix else name
        for pattern, replacement in names:
            new = re.sub(pattern, replacement, new)
        if new in out:
            raise ValueError(f"{name} and {origin[new]} would both become {new}")
        out[new] = rule(new, tensor) if rule else tensor
        origin[new] = name
    return Renamed(out, origin, unused)
