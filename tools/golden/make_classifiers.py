"""Make tests/golden/classifier_*: the authors' classifiers, small, with random weights.

    python -m tools.golden.make_classifiers --spark DIR --convnext DIR --convnextv2 DIR --mae DIR
        --unilm DIR

Each DIR is a checkout: keyu-tian/SparK at a63e386, facebookresearch/ConvNeXt at 048efce,
facebookresearch/ConvNeXt-V2 at 2553895, facebookresearch/mae at efb2a80, microsoft/unilm at
768a3c8. Of each only the files of the models are run.
"""

import argparse
import importlib
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import timm
import timm.layers
import timm.models
import torch
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden"
CLASSES, SIDE = 7, 64
DIMS, DEPTHS = [8, 12, 16, 24], [1, 1, 2, 1]
VIT = {"img_size": SIDE, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
NORM = partial(nn.LayerNorm, eps=1e-6)


def run_file(path: Path, package: str = "") -> ModuleType:
    """Run one file of a checkout, as a module of `package` where it imports its neighbours."""
    stem = f"{package}.{path.stem}" if package else f"official_{path.stem}"
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def stand_ins() -> None:
    """Give timm's newer places under the names that the codes import, and what they never call."""
    registry = ModuleType("timm.models.registry")
    registry.__dict__["register_model"] = lambda function: function
    sys.modules |= {"timm.models.layers": timm.layers, "timm.models.registry": registry}
    sparse = ModuleType("MinkowskiEngine")
    sparse.__dict__["SparseTensor"] = object
    sys.modules["MinkowskiEngine"] = sparse


def convnextv2(checkout: Path) -> nn.Module:
    """Return the ConvNeXt V2 of facebookresearch/ConvNeXt-V2."""
    package = ModuleType("official_v2")
    package.__path__ = [str(checkout / "models")]
    sys.modules["official_v2"] = package
    return run_file(checkout / "models/convnextv2.py", "official_v2").ConvNeXtV2(
        num_classes=CLASSES, depths=DEPTHS, dims=DIMS
    )


def resnet() -> nn.Module:
    """Return timm's ResNet-18, eight channels wide, which SparK fine-tunes as it is."""
    channels = {"channels": [8, 16, 24, 32]}
    return timm.create_model("resnet18", num_classes=CLASSES, **channels)


def mae(checkout: Path) -> nn.Module:
    """Return MAE's ViT, which averages the patches, on timm's of today.

    The authors' class was written on timm 0.3.2, whose `forward` was `head(forward_features)`.
    """
    module = run_file(checkout / "models_vit.py")
    more: dict[str, Any] = {"qkv_bias": True, "norm_layer": NORM, "num_classes": CLASSES}
    own = module.VisionTransformer
    own.forward = lambda self, x: self.head(self.forward_features(x))
    # heads are 64 wide, as in every published ViT: a file does not tell their number
    sizes = {**VIT, "embed_dim": 128, "depth": 1, "mlp_ratio": 2}
    model = timm.models.vision_transformer.VisionTransformer(**sizes, **more)
    model.__class__ = own  # timm 0.3.2's __init__ took no global_pool, and its own would refuse it
    model.global_pool, model.fc_norm = True, NORM(sizes["embed_dim"])
    del model.norm
    return model


def unilm(checkout: Path) -> nn.Module:
    """Return unilm's BEiT, fine-tuned: a table a block, layer scale, the mean of the patches."""
    more = {"qkv_bias": True, "norm_layer": NORM, "init_values": 0.1, "num_classes": CLASSES}
    tables = {"use_abs_pos_emb": False, "use_rel_pos_bias": True}
    module = run_file(checkout / "beit/modeling_finetune.py")
    return module.VisionTransformer(**VIT, **more, **tables)


def draw_weights(model: nn.Module) -> None:
    """Draw every weight, running statistic and table, so that none is at its initial value."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:
            positive = name.endswith(("running_var", "weight")) or "gamma" in name
            nn.init.uniform_(tensor, 0.5, 1.5) if positive else nn.init.normal_(tensor, std=0.2)
        else:
            inputs = tensor[0].numel() if tensor.ndim > 2 else tensor.shape[-1]
            nn.init.normal_(tensor, std=max(inputs, 4) ** -0.5)


def write(name: str, source: str, family: str, model: nn.Module) -> None:
    """Run a model and write its case."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    draw_weights(model)
    model.eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        logits = model(images)
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    save_file({"images": images, "logits": logits}, folder / "case.safetensors")
    weights = {n: t.contiguous() for n, t in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    spec = {
        "source": source,
        "classifier": family,
        "images": "normalised",
        "tolerance": "relative 1e-4",
    }
    (folder / "case.json").write_text(json.dumps(spec, indent=1) + "\n")
    print(name, [round(v, 3) for v in logits[0].tolist()])


def main() -> None:
    """Write the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("spark", "convnext", "convnextv2", "mae", "unilm"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    stand_ins()
    small = {"num_classes": CLASSES, "depths": DEPTHS, "dims": DIMS}
    spark = "keyu-tian/SparK downstream_imagenet/models"
    net = run_file(args.spark / "downstream_imagenet/models/convnext_official.py").ConvNeXt(**small)
    write("classifier_spark_convnext", f"{spark}/convnext_official.py, a63e386", "spark", net)
    told = f"timm {timm.__version__}'s ResNet, by {spark}/__init__.py, commit a63e386"
    write("classifier_spark_resnet", told, "spark", resnet())
    net = run_file(args.convnext / "models/convnext.py").ConvNeXt(**small)
    told = "facebookresearch/ConvNeXt models/convnext.py, commit 048efce"
    write("classifier_convnext", told, "convnext", net)
    told = "facebookresearch/ConvNeXt-V2 models/convnextv2.py, commit 2553895"
    write("classifier_convnextv2", told, "convnext", convnextv2(args.convnextv2))
    told = f"facebookresearch/mae models_vit.py, commit efb2a80, on timm {timm.__version__}"
    write("classifier_mae", told, "mae", mae(args.mae))
    told = "microsoft/unilm beit/modeling_finetune.py, commit 768a3c8"
    write("classifier_beit", told, "beit", unilm(args.unilm))


if __name__ == "__main__":
    main()
