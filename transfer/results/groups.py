"""Records -> what may share a row, a column or a cell.

A row is a lineage on a backbone, trained in one way per task; two weights files share it only if
they are seeds of one pretraining. A column is a metric under one evaluation.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from pretrain.files.lineage import CONTROL, RANDOM, Stage, kind_of, pretraining_seeds
from transfer.results.cells import Column
from transfer.results.protocol import differing, without
from transfer.results.record import Result, content_of
from transfer.tasks import TASKS

# what scratch may have of its own, since fine-tuning's rates do not suit it
TUNED = (
    "lr",
    "layer_decay",
    "layer_decay_rule",
    "decay_rule",
    "optimizer.lr",
    "optimizer.base_lr",
    "optimizer.layer_decay",
    "optimizer.layer_decay_rule",
    "layer_decay.rate",
)
FOLLOWS = {"data.digest": "train_share", "data.images": "train_share"}  # setting -> from which
Place = tuple[str, str]  # task, dataset


@dataclass(frozen=True)
class Lineage:
    """What two runs must agree in to share a row."""

    backbone: str
    kind: tuple[Stage, ...]
    recipe: str  # of the pretraining, without its seed
    weights: str  # SHA-256, "" for seeds of one pretraining


@dataclass(frozen=True)
class Measured:
    """The records of a row in one column; `runs` by (weights, seed), without copies."""

    records: list[Result]
    runs: Mapping[tuple[str | None, int], list[Result]]

    @property
    def notes(self) -> list[str]:
        """Return what the runs are not: seeds that ran once each."""
        again = [(seed, len(same)) for (_, seed), same in self.runs.items() if len(same) > 1]
        notes = [f"seed {seed} ran {count} times, counted once" for seed, count in again]
        copies = len(self.records) - sum(map(len, self.runs.values()))
        if copies:
            notes.append(f"{copies} of {len(self.records)} records are copies, not counted")
        return notes

    @cached_property
    def figures(self) -> dict[str, dict[int, float]]:
        """Return each metric that all records have: seed -> figure.

        A seed that was run again counts once, by its mean; runs of several pretrainings are
        numbered instead.
        """
        keys = sorted(self.runs)
        seeds = [seed for _, seed in keys]
        names = seeds if len(set(seeds)) == len(seeds) else range(len(seeds))
        metrics = set.intersection(*(set(record.metrics) for record in self.records))
        return {
            metric: {
                name: _mean([run.metrics[metric] for run in self.runs[key]])
                for name, key in zip(names, keys, strict=True)
            }
            for metric in sorted(metrics)
        }

    def mean(self, metric: str) -> float:
        """Return the mean over seeds."""
        return fmean(self.figures[metric].values())


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else fmean(values)


@dataclass(frozen=True)
class Runs:
    """The records of one row, and those that each column of the table takes from it."""

    lineage: Lineage
    variant: str
    records: list[Result]
    cells: Mapping[Column, Measured]

    @property
    def method(self) -> str:
        """Method of the records."""
        return self.records[0].method


def backbone_name(record: Result) -> str:
    """Return the timm name, with its arguments where the architecture is not the stock one."""
    args = (f"{k}={json.dumps(v)}" for k, v in sorted(record.backbone_args.items()))
    return f"{record.backbone}({', '.join(args)})" if record.backbone_args else record.backbone


def place_of(record: Result) -> Place:
    """Return the task and dataset of a record."""
    return record.task, record.dataset.name


def rows_of(records: Sequence[Result], columns: Sequence[Column]) -> list[Runs]:
    """Return the records of each row, scratch first on each backbone."""
    alike: dict[tuple[Any, ...], list[Result]] = {}
    recipes: dict[str | None, str] = {}  # by weights
    for record in records:
        if record.sha256 not in recipes:
            recipes[record.sha256] = _recipe(record)
        key = (backbone_name(record), kind_of(record.stages), recipes[record.sha256])
        alike.setdefault(key, []).append(record)
    found = []
    for (backbone, kind, recipe), runs in alike.items():
        for weights, same in _by_weights(runs).items():
            lineage = Lineage(backbone, kind, recipe, weights)
            found += [
                Runs(lineage, name, some, _cells(some, columns)) for name, some in _variants(same)
            ]
    return sorted(found, key=_order)


def _order(runs: Runs) -> tuple[Any, ...]:
    lineage, method = runs.lineage, runs.method
    return lineage.backbone, method != "scratch", method, str(lineage), runs.variant


def _cells(records: Sequence[Result], columns: Sequence[Column]) -> dict[Column, Measured]:
    """Return what each column measures of a row's records."""
    alike: dict[tuple[str, ...], list[Result]] = {}
    for record in records:
        alike.setdefault((*place_of(record), record.eval_hash), []).append(record)
    found = {}
    for column in columns:
        place = (column.task, column.dataset, column.eval_hash)
        mine = [record for record in alike.get(place, ()) if column.metric in record.metrics]
        if mine:
            found[column] = Measured(mine, _distinct(mine))
    return found


def _distinct(records: Sequence[Result]) -> dict[tuple[str | None, int], list[Result]]:
    """Return the runs of each file of weights and seed; copies of a record count once."""
    found: dict[tuple[str | None, int], dict[tuple[Any, ...], Result]] = {}
    for record in records:
        runs = found.setdefault((record.sha256, record.seed), {})
        runs.setdefault(content_of(record), record)
    return {key: list(runs.values()) for key, runs in found.items()}


def _recipe(record: Result) -> str:
    """Return the pretraining's settings as text, without seed and what only watches the run."""
    recipe = ((record.weights or {}).get("identity") or {}).get("recipe") or {}
    return json.dumps(without(recipe, ["seed", "run"]), sort_keys=True, default=str)


def _by_weights(records: Iterable[Result]) -> dict[str, list[Result]]:
    """Return records by weights file; "" for files that are declared seeds of one pretraining."""
    owner: dict[tuple[int | None, ...], str | None] = {}
    found: dict[str, list[Result]] = {}
    for record in sorted(records, key=lambda r: r.sha256 or ""):
        sha256, seeds = pretrained_of(record)
        declared = any(seed is not None for seed in seeds)
        is_seed = declared and owner.setdefault(seeds, sha256) == sha256
        found.setdefault("" if is_seed or not seeds else sha256 or "", []).append(record)
    return found


def pretrained_of(record: Result) -> tuple[str | None, tuple[int | None, ...]]:
    """Return digest and seeds of the pretrained weights; of a control, those it was made from."""
    last = record.stages[-1] if record.stages else None
    if last is not None and last.method == CONTROL and last.started_from is not None:
        return last.started_from, pretraining_seeds(record.stages[:-1])
    if last is not None and last.method == RANDOM:
        return None, ()
    return record.sha256, pretraining_seeds(record.stages)


def _variants(records: list[Result]) -> list[tuple[str, list[Result]]]:
    """Return the ways a lineage was trained: by each place's first, second, ... protocol.

    Protocols of two tasks are in one row only where they agree in what means the same in both.
    """
    ways: dict[str, dict[Place, dict[str, list[Result]]]] = {}
    of_place: dict[Place, dict[str, list[Result]]] = {}
    for record in records:
        place = place_of(record)
        found = ways.setdefault(_in_every_task(record), {}).setdefault(place, {})
        found.setdefault(record.train_hash, []).append(record)
        of_place.setdefault(place, {}).setdefault(record.train_hash, []).append(record)
    names = {place: _names(found) for place, found in of_place.items()}
    variants = []
    for told, places in ways.items():
        for i in range(max(map(len, places.values()))):
            chosen = [(p, sorted(found)[i]) for p, found in places.items() if i < len(found)]
            name = "; ".join(filter(None, (names[place][train] for place, train in chosen)))
            name = name or (told if len(ways) > 1 else "")
            variants.append((name, [r for place, train in chosen for r in places[place][train]]))
    return variants


def _in_every_task(record: Result) -> str:
    """Return the settings of a training that every task has: what is frozen, share of labels."""
    train = record.train
    return f"freeze={train.get('freeze', 'none')}, train_share={train.get('train_share', 1)}"


def _names(ways: Mapping[str, list[Result]]) -> dict[str, str]:
    """Return for each training protocol the settings that tell it from the others."""
    protocols = {train: records[0].train for train, records in ways.items()}
    keys = differing_keys(list(protocols.values()))
    brief = _named(protocols, [key for key in keys if FOLLOWS.get(key) not in keys])
    return brief if len(set(brief.values())) == len(brief) else _named(protocols, keys)


def _named(protocols: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> dict[str, str]:
    return {train: _settings(protocol, keys) for train, protocol in protocols.items()}


def _settings(protocol: Mapping[str, Any], keys: Sequence[str], most: int = 3) -> str:
    more = f", and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(f"{key}={_value(protocol, key)}" for key in keys[:most]) + more


def _value(protocol: Mapping[str, Any], key: str) -> Any:
    value: Any = protocol
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def differing_keys(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which any of the protocols differ."""
    return sorted({key for other in protocols[1:] for key in differing(protocols[0], other)})


def columns_of(records: Iterable[Result]) -> list[Column]:
    """Return a column for each metric, dataset and evaluation, titled by what differs."""
    evaluations: dict[Place, dict[str, dict[str, Any]]] = {}
    shown: set[tuple[Place, str, str]] = set()
    for record in records:
        place = place_of(record)
        evaluations.setdefault(place, {})[record.eval_hash] = record.eval
        shown |= {(place, record.eval_hash, metric) for metric in record.metrics}
    tasks = [task for task, _ in evaluations]
    columns = []
    for place, found in sorted(evaluations.items()):
        labels = evaluation_labels(found)
        several = tasks.count(place[0]) > 1
        for one in sorted(found, key=lambda h: (bool(found[h].get("tta")), labels[h])):
            details = ", ".join(filter(None, (place[1] if several else "", labels[one])))
            for metric in TASKS[place[0]].columns:
                if (place, one, metric) in shown:
                    title = f"{metric} ({details})" if details else metric
                    columns.append(Column(*place, metric, title, one))
    return columns


def evaluation_labels(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what tells evaluations apart, by hash; "" if there is one."""
    if len(evaluations) == 1:
        return dict.fromkeys(evaluations, "")
    labels = {one: describe_evaluation(settings) for one, settings in evaluations.items()}
    for one, label in labels.items():
        if list(labels.values()).count(label) > 1:
            labels[one] = f"{label}, {one[:6]}"
    return labels


def describe_evaluation(settings: Mapping[str, Any]) -> str:
    """Return an evaluation in few words."""
    if "input_size" in settings:
        return f"{settings['input_size']} px"
    words = ["multi-scale" if settings.get("tta") else "single-scale"]
    return ", ".join([*words, "Soft-NMS"] if settings.get("soft_nms") else words)


def comparable(records: Iterable[Result]) -> dict[str, str]:
    """Return train_hash -> what two trainings must agree in to be compared: all but TUNED."""
    trained = {record.train_hash: record.train for record in records}
    return {
        train_hash: json.dumps(without(train, TUNED), sort_keys=True)
        for train_hash, train in trained.items()
    }


def layer_decay_of(record: Result) -> float | None:
    """Return the layer decay of a training; None if its protocol has none."""
    for key in ("layer_decay", "optimizer.layer_decay", "layer_decay.rate"):
        value = _value(record.train, key)
        if isinstance(value, int | float):
            return float(value)
    return None
