"""Convert a weights file, and prove it: the features before and after are compared.

python tools/convert_weights.py FILE --out OUT [--to encoder|timm|detectron2|mmseg]
python tools/convert_weights.py NAME --out OUT       a release of configs/weights.json

Beside OUT a report is written, OUT.report.json: what each tensor became, what was left out, the
SHA-256 of both files, the comparisons, and the settings the target's net needs.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.files.lineage import parse_stages
from pretrain.files.read import sha256_of
from pretrain.files.write import atomic_write
from pretrain.run.stop import exit_status
from transfer.results.record import describe_environment
from transfer.weights import prove
from transfer.weights.convert import NAMES, Weights, read_weights
from transfer.weights.export import TARGETS, Export, export, require_suffix, write_export
from transfer.weights.lineage import merged, require_known
from transfer.weights.releases import FOLDER, find, require_expected_hash


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="a weights file, or a name of configs/weights.json")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--to", choices=TARGETS, default="encoder")
    parser.add_argument("--source", choices=NAMES, help="the layout, instead of recognising it")
    parser.add_argument("--arch", help="the timm architecture, instead of inferring it")
    parser.add_argument("--arch-args", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--method", help="how it was trained: spark, fcmae+supervised, ...")
    parser.add_argument(
        "--stages",
        metavar="JSON",
        help="the same with data, epochs, ...: "
        '[{"method": "spark", "data": "IN1K", "labels": false, "epochs": 1600}]',
    )
    parser.add_argument("--weights-dir", type=Path, default=FOLDER, help="where releases lie")
    for name in ("mean", "std"):
        parser.add_argument(f"--pixel-{name}", type=float, nargs=3, metavar="X", help="in [0, 1]")
    parser.add_argument("--color-order", choices=("RGB", "BGR"))
    return parser.parse_args()


def read(options: argparse.Namespace) -> Weights:
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
        value = getattr(options, name)
        if value is not None:
            changes[name] = tuple(value) if isinstance(value, list) else value
    if weights.source == "encoder":
        del changes["commit"]
    return replace(weights, identity=replace(weights.identity, **changes))


def proofs_of(weights: Weights, exported: Export, options: argparse.Namespace) -> list[prove.Proof]:
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


def report(weights: Weights, exported: Export, proofs: list[prove.Proof], options: Any) -> Path:
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


def convert(options: argparse.Namespace) -> None:
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
    print(f"{identity.arch} {identity.arch_args or ''}: {len(weights.tensors)} tensors, "
          f"{len(weights.unused)} left out")  # fmt: skip
    for proof in proofs:
        print(f"  {proof}")
    print(f"{options.out} and {path.name} written")


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(lambda: convert(parse()))


if __name__ == "__main__":
    sys.exit(main())
