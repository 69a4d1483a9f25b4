"""What a check of data found: where, what, and the exact fix."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from pretrain.run.options import did_you_mean

Level = Literal["error", "warning"]

# the names of all problems, by which a config can allow them
CODES = frozenset(
    (
        "annotation-id-twice",
        "annotation-id-zero",
        "annotations-format",
        "annotations-missing",
        "annotations-unreadable",
        "box-empty",
        "box-format",
        "box-invalid",
        "box-outside",
        "box-over-edge",
        "categories-differ",
        "category-id-twice",
        "category-name-twice",
        "category-unknown",
        "category-unused",
        "class-count",
        "class-empty",
        "class-imbalance",
        "class-unknown",
        "class-unused",
        "class-without-train",
        "class-without-val",
        "counts",
        "folder-missing",
        "id-invalid",
        "image-count",
        "image-depth",
        "image-id-twice",
        "image-missing",
        "image-size",
        "image-small",
        "image-twice",
        "image-unknown",
        "image-unreadable",
        "label-missing",
        "label-mode",
        "label-palette",
        "label-size",
        "label-unreadable",
        "label-value",
        "labels-ignored",
        "mask-empty",
        "mask-format",
        "mask-missing",
        "mask-size",
        "no-images",
        "no-objects",
        "polygon-invalid",
        "polygon-outside",
        "polygon-over-edge",
        "polygon-short",
        "split-missing",
        "split-overlap",
    )
)


@dataclass(frozen=True)
class Finding:
    """One problem. `code` is a stable name that `--allow` takes; `where` a file or an id."""

    level: Level
    code: str
    where: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level} [{self.code}] {self.where}: {self.message}. Fix: {self.fix}"


class Findings:
    """Collects findings, at most `limit` per code and level; the rest are counted in one line."""

    def __init__(self, limit: int = 20) -> None:
        self._limit = limit
        self._kept: list[Finding] = []
        self._seen: Counter[tuple[Level, str]] = Counter()

    def error(self, code: str, where: object, message: str, fix: str) -> None:
        """Add a problem that makes a run wrong or stops it."""
        self._add(Finding("error", code, str(where), message, fix))

    def warning(self, code: str, where: object, message: str, fix: str) -> None:
        """Add a problem that does not stop a run but that its owner should know."""
        self._add(Finding("warning", code, str(where), message, fix))

    def _add(self, finding: Finding) -> None:
        assert finding.code in CODES, f"add {finding.code!r} to CODES"
        key = (finding.level, finding.code)
        self._seen[key] += 1
        if self._seen[key] <= self._limit:
            self._kept.append(finding)

    def __len__(self) -> int:
        return sum(self._seen.values())

    def all(self) -> list[Finding]:
        """Return the findings, errors first, grouped by code."""
        rest = [
            Finding(level, code, f"{count - self._limit:,} more places", "the same", "as above")
            for (level, code), count in self._seen.items()
            if count > self._limit
        ]
        return sorted([*self._kept, *rest], key=lambda f: (f.level != "error", f.code))


def refuse_unknown_codes(codes: Iterable[str]) -> None:
    """Raise ValueError for a code that no finding has, with the nearest one."""
    for code in codes:
        if code not in CODES:
            raise ValueError(
                f"allow_findings: no finding is called {code!r}{did_you_mean(code, CODES)}"
            )


def errors(findings: Iterable[Finding], allow: Collection[str] = ()) -> list[Finding]:
    """Return the errors whose code is not in `allow`."""
    return [f for f in findings if f.level == "error" and f.code not in allow]


def refuse_errors(findings: Iterable[Finding], allow: Collection[str] = ()) -> None:
    """Raise ValueError with a list of the errors whose code is not in `allow`, if there are any."""
    refuse_unknown_codes(allow)
    found = errors(findings, allow)
    if not found:
        return
    lines = "\n".join(f"  {finding}" for finding in found[:10])
    more = f"\n  ... and {len(found) - 10} more" if len(found) > 10 else ""
    raise ValueError(
        f"the data has {len(found)} error{'s' if len(found) > 1 else ''}:\n{lines}{more}\n"
        "tools/check_data.py gives the whole report; a code in brackets can be allowed by name"
    )
