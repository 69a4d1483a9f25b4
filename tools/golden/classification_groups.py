"""Make tests/golden/classification.json: parameter groups and rates by the official functions.

    python tools/golden/classification_groups.py --spark DIR --convnextv2 DIR --convnext DIR \
        --mae DIR --beit DIR

Each DIR is a checkout: keyu-tian/SparK at a63e386, facebookresearch/ConvNeXt-V2 at 2553895,
facebookresearch/ConvNeXt at 048efce, facebookresearch/mae at efb2a80, microsoft/unilm's `beit/` at
768a3c8. Only the functions that are named here are run, from their files.
"""

import argparse
import ast
import importlib
import json
import math
import sys
from functools import partial
from pathlib import Path
from pprint import pformat
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "classification.json"
STEPS_PER_EPOCH, AT = 10, (0, 1, 30, 49, 50, 199, 200, 201, 700, 999)
Named = list[tuple[str, float, float]]  # parameter, factor of the rate, weight decay


def functions(path: Path, *names: str, **known: Any) -> SimpleNamespace:
    """Run only the named functions and classes of a file, with `known` names to refer to."""
    tree = ast.parse(path.read_text())
    nodes = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    chosen = [n for n in nodes if n.name in names]
    found = {n.name for n in chosen}
    if found != set(names):
        raise ValueError(f"{path} lacks {', '.join(set(names) - found)}")
    scope: dict[str, Any] = {"json": json, "math": math, "np": np, "torch": torch, **known}
    code = compile(ast.Module(chosen, []), str(path), "exec")
    exec(code, scope)
    return SimpleNamespace(**{name: scope[name] for name in names})


def groups_of(model: nn.Module, groups: list[dict[str, Any]], decay: float | None = None) -> Named:
    """Return each parameter's factor and weight decay; SparK's groups tell a share of `decay`."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        (
            names[id(p)],
            group.get("lr_scale", 1.0),
            group["weight_decay"] if decay is None else decay * group["weight_decay_scale"],
        )
        for group in groups
        for p in group["params"]
    ]


def spark(root: Path, model: nn.Module, layer_decay: float, decay: float) -> Named:
    """SparK's groups of a timm ResNet, or of the official ConvNeXt."""
    folder = root / "downstream_imagenet"
    kinds = functions(
        folder / "models" / "__init__.py",
        "convnext_get_layer_id_and_scale_exp",
        "resnets_get_layer_id_and_scale_exp",
        ConvNeXt=object,
        ResNet=object,
    )
    name = "resnets" if hasattr(model, "layer1") else "convnext"
    get = getattr(kinds, f"{name}_get_layer_id_and_scale_exp")
    model.get_layer_id_and_scale_exp = partial(get, model)  # type: ignore[assignment]
    groups = functions(folder / "lr_decay.py", "get_param_groups", pformat=pformat).get_param_groups
    without = {"cls_token", "pos_embed", "mask_token", "gamma"}  # util.py
    return groups_of(model, groups(model, without, layer_decay), decay)


def convnext(
    file: Path, model: nn.Module, layer_decay: float, decay: float, kind: str | None
) -> Named:
    """ConvNeXt's groups; V2's with a kind of layer decay, "single" or "group"."""
    more = ["get_num_layer_for_convnext_single"] if kind else []
    official = functions(
        file, "get_num_layer_for_convnext", "LayerDecayValueAssigner", "get_parameter_groups", *more
    )
    if layer_decay == 1:
        return groups_of(model, official.get_parameter_groups(model, decay))
    depths = [len(stage) for stage in model.stages]  # type: ignore[union-attr,arg-type]
    layers = sum(depths) if kind == "single" else 12  # main.py, main_finetune.py
    values = [layer_decay ** (layers + 1 - i) for i in range(layers + 2)]
    options = {"depths": depths, "layer_decay_type": kind} if kind else {}
    assigner = official.LayerDecayValueAssigner(values, **options)
    groups = official.get_parameter_groups(
        model, decay, (), assigner.get_layer_id, assigner.get_scale
    )
    return groups_of(model, groups)


def beit(root: Path, model: nn.Module, layer_decay: float, decay: float) -> Named:
    """BEiT's groups."""
    official = functions(
        root / "optim_factory.py",
        "get_num_layer_for_vit",
        "LayerDecayValueAssigner",
        "get_parameter_groups",
    )
    layers = len(model.blocks)  # type: ignore[arg-type]
    values = [layer_decay ** (layers + 1 - i) for i in range(layers + 2)]
    assigner = official.LayerDecayValueAssigner(values)
    skip = model.no_weight_decay()  # type: ignore[operator]
    groups = official.get_parameter_groups(
        model, decay, skip, assigner.get_layer_id, assigner.get_scale
    )
    return groups_of(model, groups)


def mae(root: Path, model: nn.Module, layer_decay: float, decay: float) -> Named:
    """MAE's groups; timm 0.3.2's ViT, which it builds on, does not decay these two."""
    official = functions(root / "util" / "lr_decay.py", "param_groups_lrd", "get_layer_id_for_vit")
    skip = {"pos_embed", "cls_token"}
    return groups_of(model, official.param_groups_lrd(model, decay, skip, layer_decay))


def network(file: Path, name: str, **arguments: Any) -> nn.Module:
    """Return a network of an official file."""
    package = ModuleType("official")  # so that the file can import its neighbours
    package.__path__ = [str(file.parent)]
    sys.modules["official"] = package
    sys.modules["MinkowskiEngine"] = SimpleNamespace(SparseTensor=object)  # type: ignore[assignment]
    sys.modules.pop("official.utils", None)
    module = importlib.import_module(f"official.{file.stem}")
    return getattr(module, name)(num_classes=1000, **arguments)


def rates(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the rates at some steps of 100 epochs of 10 steps, 20 of them warm-up, peak 1."""
    total, warm = 100 * STEPS_PER_EPOCH, 20 * STEPS_PER_EPOCH
    found: dict[str, list[float]] = {}
    anneal = functions(options.spark / "downstream_imagenet" / "lr_decay.py", "lr_wd_annealing")
    optimizer = SimpleNamespace(param_groups=[{}])
    found["spark"] = [anneal.lr_wd_annealing(optimizer, 1.0, 0, s, warm, total)[1] for s in AT]
    args = SimpleNamespace(lr=1.0, min_lr=1e-3, warmup_epochs=20, epochs=100)
    adjust = functions(options.mae / "util" / "lr_sched.py", "adjust_learning_rate")
    again = functions(options.convnextv2 / "utils.py", "adjust_learning_rate")
    for name, code in (("mae", adjust), ("fcmae", again)):
        at = [code.adjust_learning_rate(optimizer, s / STEPS_PER_EPOCH, args) for s in AT]
        found[name] = at
    for name, file in (("beit", options.beit), ("convnext", options.convnext)):
        values = functions(file / "utils.py", "cosine_scheduler").cosine_scheduler(
            1.0, 1e-3, 100, STEPS_PER_EPOCH, warmup_epochs=20
        )
        found[name] = [float(values[s]) for s in AT]
    return found


def main() -> None:
    """Run the official functions and write what they return."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("spark", "convnextv2", "convnext", "mae", "beit"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    v1, v2 = options.convnext / "optim_factory.py", options.convnextv2 / "optim_factory.py"
    nets = options.convnextv2 / "models" / "convnextv2.py"
    cases: dict[str, Named] = {}
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch16_224", global_pool="avg")
    for depth, decay in ((50, 0.7), (101, 0.8), (152, 0.8), (200, 0.8)):
        with torch.device("meta"):
            model = timm.create_model(f"resnet{depth}")
        cases[f"spark_resnet{depth}"] = spark(options.spark, model, decay, 0.02)
    official = options.spark / "downstream_imagenet" / "models" / "convnext_official.py"
    small = network(official, "convnext_small")
    cases["spark_convnext_small"] = spark(options.spark, small, 0.7, 0.01)
    for size, kind, layers, decay in (
        ("atto", "single", 0.9, 0.3),
        ("nano", "single", 0.9, 0.3),
        ("tiny", "single", 0.9, 0.05),
        ("base", "group", 0.6, 0.05),
    ):
        model = network(nets, f"convnextv2_{size}")
        cases[f"fcmae_convnextv2_{size}"] = convnext(v2, model, layers, decay, kind)
    for name, size, layers, decay in (
        ("convnext_tiny", "tiny", 1.0, 0.05),
        ("convnext_base_384", "base", 0.7, 1e-8),
    ):
        model = network(official, f"convnext_{size}")
        cases[name] = convnext(v1, model, layers, decay, None)
    as_run = {"use_rel_pos_bias": True, "use_abs_pos_emb": False, "init_values": 0.1}
    model = network(options.beit / "modeling_finetune.py", "beit_base_patch16_224", **as_run)
    cases["beit_base_in1k"] = beit(options.beit, model, 0.65, 0.05)
    cases["mae_base"] = mae(options.mae, vit, 0.65, 0.05)
    content = {"at": AT, "rates": rates(options), "groups": cases}
    OUT.write_text(json.dumps(content, separators=(",", ":")).replace('],["', '],\n["') + "\n")


if __name__ == "__main__":
    main()
