"""A tree of records, checked: what is edited, copied, unfinished or unlike, each with its fix."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.run.folder import RECORD, STATE
from transfer.results.groups import comparable, differing_keys, place_of
from transfer.results.record import Result, content_of, find_results, read_result


@dataclass(frozen=True)
class Finding:
    """Something wrong with records; `kind` is edited, duplicate, repeated, unfinished or unlike."""

    kind: str
    where: tuple[Path, ...]
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(map(str, self.where))}: {self.what}. Fix: {self.fix}"


def check_records(places: Sequence[Path]) -> tuple[int, list[Finding]]:
    """Return the number of good records below `places`, and what is wrong.

    Raises FileNotFoundError if a place is not there.
    """
    findings = [finding for place in places for finding in _unfinished(Path(place))]
    try:
        paths = find_results(places)
    except FileNotFoundError:
        if not findings:
            raise
        paths = []
    good: dict[Path, Result] = {}
    for path in paths:
        try:
            good[path] = read_result(path)
        except ValueError as error:
            told = str(error).removeprefix(f"{path} ")
            fix = "run it again, or restore the record from a copy; never edit one"
            findings.append(Finding("edited", (path,), told, fix))
    findings += [*_duplicates(good), *_repeated(good), *_unlike(good)]
    return len(good), findings


def _unfinished(place: Path) -> Iterator[Finding]:
    """Yield run folders with a training state and without a record."""
    for folder, _, files in os.walk(place) if place.is_dir() else ():
        is_run = STATE in files and any("config" in name or name == "run.json" for name in files)
        if is_run and RECORD not in files and not any("encoder" in name for name in files):
            yield Finding(
                "unfinished",
                (Path(folder),),
                "a training state and no record",
                "go on with the run's command and --resume, or remove the folder",
            )


def _duplicates(records: dict[Path, Result]) -> Iterator[Finding]:
    """Yield records of equal figures and cost to the last digit: copies."""
    alike: dict[object, list[Path]] = {}
    for path, record in records.items():
        key = (record.task, record.train_hash, record.eval_hash, content_of(record))
        alike.setdefault(key, []).append(path)
    for paths in alike.values():
        if len(paths) > 1:
            seeds = sorted({records[path].seed for path in paths})
            told = "equal in every figure and in their cost"
            told += f", under seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
            yield Finding(
                "duplicate", tuple(paths), told, "keep the one that was run, remove the rest"
            )


def _repeated(records: dict[Path, Result]) -> Iterator[Finding]:
    """Yield runs of one seed under one protocol from one file: they are not seeds."""
    alike: dict[tuple[object, ...], dict[object, Path]] = {}
    for path, r in records.items():
        same = (r.task, r.backbone, r.sha256, r.train_hash, r.eval_hash, r.seed)
        alike.setdefault(same, {}).setdefault(content_of(r), path)
    for key, runs in alike.items():
        if len(runs) > 1:
            told = f"seed {key[-1]} ran {len(runs)} times"
            fix = "give each run a seed of its own; tables count these once"
            yield Finding("repeated", tuple(runs.values()), told, fix)


def _unlike(records: dict[Path, Result]) -> Iterator[Finding]:
    """Yield pretrained runs whose scratch runs were trained in another way."""
    alike = comparable(records.values())
    groups: dict[object, dict[bool, list[Path]]] = {}
    for path, record in records.items():
        key = (*place_of(record), record.eval_hash, record.backbone, str(record.backbone_args))
        groups.setdefault(key, {}).setdefault(record.weights is None, []).append(path)
    for group in groups.values():
        scratch = {alike[records[p].train_hash] for p in group.get(True, ())}
        lonely = [p for p in group.get(False, ()) if alike[records[p].train_hash] not in scratch]
        if scratch and lonely:
            yield _against(records, lonely, group[True][0])


def _against(records: dict[Path, Result], lonely: Iterable[Path], scratch: Path) -> Finding:
    paths = tuple(lonely)
    keys = differing_keys([records[paths[0]].train, records[scratch].train])
    more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
    return Finding(
        "unlike",
        paths,
        f"no scratch run was trained alike; {scratch} differs in {', '.join(keys[:6])}{more}",
        "train scratch with these runs' settings (but learning rate and layer decay of its own)",
    )
