"""Convert a weights file, and prove it: the features before and after are compared.

    python tools/convert_weights.py FILE --out OUT [--to encoder|timm|detectron2|mmseg]
    python tools/convert_weights.py NAME --out OUT       a release of configs/weights.json

Beside OUT a report is written, OUT.report.json: what each tensor became, what was left out, the
SHA-256 of both files, the comparisons, and the settings the target's net needs.
"""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from torch import Tensor

from pretrain.command import JSON_DICT
from pretrain.files.lineage import parse_stages
from pretrain.files.read import sha256_of
from pretrain.files.write import atomic_write
from pretrain.run.stop import exit_status
from transfer.results.record import describe_environment
from transfer.weights import prove
from transfer.weights.convert import NAMES, Weights, read_weights
from transfer.weights.export import Export, Target, export, require_suffix, write_export
from transfer.weights.lineage import merged, require_known
from transfer.weights.releases import FOLDER, find, require_expected_hash

SourceName = tyro.extras.literal_type_from_choices(NAMES)


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A weights file, or a name of configs/weights.json."""
    out: Path
    """The file to write."""
    to: Target = "encoder"
    """Whose names and format it has."""
    source: SourceName | None = None
    """The layout, instead of recognising it."""
    arch: str | None = None
    """The timm architecture, instead of inferring it."""
    arch_args: Annotated[dict[str, Any], JSON_DICT] = field(default_factory=dict)
    """Further arguments of the timm architecture."""
    method: str | None = None
    """How it was trained: spark, fcmae+supervised, ..."""
    stages: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """The same with data, epochs, ...:
    [{"method": "spark", "data": "IN1K", "labels": false, "epochs": 1600}]."""
    weights_dir: Path = FOLDER
    """Where releases lie."""
    pixel_mean: tuple[float, float, float] | None = None
    """Mean of the pixels it was trained on, in [0, 1]."""
    pixel_std: tuple[float, float, float] | None = None
    """Their standard deviation, in [0, 1]."""
    color_order: Literal["RGB", "BGR"] | None = None
    """Order of the colours it was trained on."""


def read(options: Arguments) -> Weights:
    """Read the weights, with the conventions that the command line states."""
    path, release = find(options.file, options.weights_dir)
    told = merged(options.method, parse_stages(options.stages) if options.stages else None)
    stages = told or (release.stages if release else None)
    weights = read_weights(
        path, options.source, arch=options.arch, arch_args=options.arch_args, stages=stages
    )
    require_expected_hash(release, path, weights.sha256)
    if options.to == "encoder":
        require_known(weights.identity.stages, str(path))
    changes: dict[str, Any] = {
        "extra": {**weights.identity.extra, "source_sha256": weights.sha256},
        "commit": describe_environment().commit,
    }
    for name in ("pixel_mean", "pixel_std", "color_order"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if weights.source == "encoder":
        del changes["commit"]
    return replace(weights, identity=replace(weights.identity, **changes))


def proofs_of(weights: Weights, exported: Export, options: Arguments) -> list[prove.Proof]:
    """Make every comparison that is possible for this target."""
    images = prove.random_images(weights)
    features = prove.dense_features(weights)
    proofs = [
        prove.against_timm_net(weights, features, images),
        prove.against_timm_loader(weights, features, images),
        prove.against_official_names(weights, features, images),
    ]
    if options.to == "encoder":
        proofs.append(prove.against_written(weights, options.out, images))
    if options.to in ("detectron2", "mmseg"):
        ours = prove.maps_of(features, images)
        proofs.append(framework_proof(options.to, options.out, weights, exported, images, ours))
    return proofs


def framework_proof(
    target: str, out: Path, weights: Weights, exported: Export, images: Tensor, ours: list[Tensor]
) -> prove.Proof:
    """Compare with the framework's own network, loaded from the written file."""
    what = f"features in {target}'s own net, by its own loader"
    try:
        if target == "detectron2":
            from transfer.detection.native import maps_of_file
        else:
            from transfer.segmentation.native import maps_of_file
    except ImportError as error:
        return prove.Proof(what, not_possible=f"{error.name} is not installed")
    try:
        theirs = maps_of_file(out, weights.tensors, exported.settings, images)
    except LookupError as error:
        return prove.Proof(what, not_possible=str(error.args[0]))
    return prove.compare(what, theirs, ours)


def report(
    weights: Weights, exported: Export, proofs: list[prove.Proof], options: Arguments
) -> Path:
    """Write OUT.report.json."""
    content = {
        "file": weights.file,
        "sha256": weights.sha256,
        "source": weights.source,
        "reason": weights.reason,
        "out": str(options.out),
        "out_sha256": sha256_of(options.out),
        "to": options.to,
        "identity": asdict(weights.identity),
        "tensors": weights.origin,
        "unused": weights.unused,
        "left_by_target": exported.left,
        "settings": exported.settings,
        "proofs": [proof.to_json() for proof in proofs],
    }
    path = options.out.with_name(options.out.name + ".report.json")
    atomic_write(path, lambda p: p.write_text(json.dumps(content, indent=1) + "\n"))
    return path


def main(options: Arguments) -> None:
    """Convert, check and write the weights; remove the output if the check fails.

    Raises ValueError if the output exists.
    """
    require_suffix(options.to, options.out)
    if options.out.exists() or options.out.is_symlink():
        raise ValueError(f"{options.out} exists: remove it or choose another --out")
    weights = read(options)
    exported = export(weights, options.to)
    write_export(exported, weights, options.to, options.out)
    try:
        proofs = proofs_of(weights, exported, options)
        prove.require_proved(proofs, weights.file)
        path = report(weights, exported, proofs, options)
    except BaseException:
        options.out.unlink(missing_ok=True)
        raise
    identity = weights.identity
    print(f"{weights.file}: {weights.source} ({weights.reason})")
    print("trained as " + ", then ".join(map(str, identity.stages)))
    print(
        f"{identity.arch} {identity.arch_args or ''}: {len(weights.tensors)} tensors, "
        f"{len(weights.unused)} left out"
    )
    for proof in proofs:
        print(f"  {proof}")
    print(f"{options.out} and {path.name} written")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
