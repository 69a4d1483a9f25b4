"""Random weights in the layouts that the official code writes, made from timm nets.

The names are written here a second time, from the official sides, so that a slip in one of the
tables of transfer/weights/sources does not hide in the other.
"""

import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

RESNET = ("resnet18", {"layers": (1, 2, 1, 1), "channels": (16, 24, 32, 40)})
BOTTLENECK = ("resnet50", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)})
CONVNEXT = ("convnext_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64)})
CONVNEXT2 = ("convnextv2_tiny", {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 40)})
VIT = ("vit_base_patch16_224", {"embed_dim": 64, "depth": 3, "num_heads": 1, "img_size": 64})
BEIT = (
    "beit_base_patch16_224",
    {"embed_dim": 48, "depth": 3, "num_heads": 3, "img_size": 96, "init_values": 0.1},
)


@dataclass(frozen=True)
class Layout:
    """A file's content, the net it was made from, and what it should be read as."""

    source: str
    net: nn.Module
    content: Any
    arch_args: dict[str, Any] = field(default_factory=dict)  # where the tensors do not tell


def random_net(arch: str, args: dict[str, Any], seed: int = 0, **more: Any) -> nn.Module:
    """A timm net in which nothing is at its initial zero or one."""
    torch.manual_seed(seed)
    net = timm.create_model(arch, pretrained=False, **{"num_classes": 5, **args, **more})
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            spread = 0.2 * torch.randn_like(tensor)
            tensor.copy_(spread.abs() + 0.5 if "running_var" in name else spread)
            if name.endswith(("norm1.weight", "norm2.weight", "bn1.weight", "bn2.weight")):
                tensor.add_(1)
    return net.eval()


def without(state: dict[str, Tensor], *starts: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((k, v) for k, v in state.items() if not k.startswith(starts))


def under(state: dict[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + k, v) for k, v in state.items())


def renamed(state: dict[str, Tensor], rule: Callable[[str], str]) -> OrderedDict[str, Tensor]:
    return OrderedDict((rule(k), v) for k, v in state.items())


def official_convnext(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "stem":
        return ".".join(["downsample_layers", "0", *parts[1:]])
    if parts[0] == "head":
        return ".".join(parts[1:]).replace("fc.", "head.")
    if parts[2] == "downsample":
        return ".".join(["downsample_layers", parts[1], *parts[3:]])
    tail = ".".join(parts[4:])
    for ours, theirs in [
        ("conv_dw", "dwconv"),
        ("mlp.fc1", "pwconv1"),
        ("mlp.fc2", "pwconv2"),
        ("mlp.grn.weight", "grn.gamma"),
        ("mlp.grn.bias", "grn.beta"),
    ]:
        tail = tail.replace(ours, theirs)
    return f"stages.{parts[1]}.{parts[3]}.{tail}"


def convnext_state(net: nn.Module) -> OrderedDict[str, Tensor]:
    state = renamed(net.state_dict(), official_convnext)
    return OrderedDict((k, v[None, None, None] if ".grn." in k else v) for k, v in state.items())


def minkowski_state(net: nn.Module) -> OrderedDict[str, Tensor]:
    """The same encoder as MinkowskiEngine stores it: the reverse of remap_checkpoint_keys."""
    out: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in without(convnext_state(net), "head", "norm").items():
        inside = not name.startswith("downsample_layers.0")
        if inside and value.ndim == 4 and ".grn." not in name:
            o, i, k, _ = value.shape
            kernel = value.transpose(3, 2).reshape(o, i, k * k).permute(2, 1, 0)
            name = name.replace("weight", "kernel")
            value = kernel[:, 0] if i == 1 and "dwconv" in name else kernel
        elif inside and ".grn." in name:
            value = value.reshape(1, -1)
        elif inside and "pwconv" in name:
            head, _, tail = name.rpartition(".")
            name = f"{head}.linear.{tail}"
        elif inside and (".norm." in name or re.match(r"downsample_layers\.\d\.0\.", name)):
            head, _, tail = name.rpartition(".")
            name = f"{head}.ln.{tail}"
        elif inside and name.endswith(".bias"):
            value = value.reshape(1, -1)
        out["encoder." + name] = value.contiguous()
    return out


def fcmae_rest(width: int) -> dict[str, Tensor]:
    return {
        "mask_token": torch.randn(1, 16, 1, 1),
        "proj.weight": torch.randn(16, width, 1, 1),
        "proj.bias": torch.randn(16),
        "decoder.0.dwconv.weight": torch.randn(16, 1, 7, 7),
        "decoder.0.grn.gamma": torch.randn(1, 1, 1, 64),
        "pred.weight": torch.randn(3072, 16, 1, 1),
        "pred.bias": torch.randn(3072),
    }


def spark_full(encoder: dict[str, Tensor]) -> dict[str, Any]:
    """{args, input_size, ..., module}: with a dict called config among the tensors."""
    module: dict[str, Any] = under(encoder, "sparse_encoder.sp_cnn.")
    module |= {
        "dense_decoder.dec.0.up_sample.weight": torch.randn(8, 8, 4, 4),
        "dense_decoder.proj.bias": torch.randn(3),
        "densify_norms.0.weight": torch.randn(8),
        "densify_projs.0.weight": torch.randn(8, 8, 1, 1),
        "mask_tokens.0": torch.randn(1, 8, 1, 1),
        "imn_m": torch.randn(1, 3, 1, 1),
        "imn_s": torch.randn(1, 3, 1, 1),
        "norm_black": torch.zeros(1, 3, 224, 224),
        "config": {"mask_ratio": 0.6, "hierarchy": 4},
    }
    return {
        "args": "Namespace(...)",
        "input_size": 224,
        "arch": "resnet50",
        "epoch": 1599,
        "performance_desc": "",
        "module": module,
        "is_pretrain": True,
        "optimizer": {"state": {0: {"exp_avg": torch.randn(3)}}, "param_groups": [{"lr": 1e-3}]},
    }


def beit_pretrained(net: nn.Module, tables: str) -> OrderedDict[str, Tensor]:
    """BEiT's pretraining state; `tables` "shared" or "none"."""
    state = OrderedDict(without(net.state_dict(), "head", "fc_norm"))
    width = state["cls_token"].shape[-1]
    if tables == "shared":
        state["rel_pos_bias.relative_position_index"] = torch.zeros(5, 5, dtype=torch.int64)
    state["mask_token"] = torch.randn(1, 1, width)
    state["lm_head.weight"], state["lm_head.bias"] = torch.randn(9, width), torch.randn(9)
    return state


def mm_vit(name: str) -> str:
    for theirs, ours in [
        ("patch_embed.projection", "patch_embed.proj"),
        ("ffn.layers.0.0", "mlp.fc1"),
        ("ffn.layers.1", "mlp.fc2"),
        ("layers.", "blocks."),
        ("ln1", "norm1"),
        ("ln2", "norm2"),
    ]:
        name = name.replace(ours, theirs)
    return "ln1" + name.removeprefix("norm") if name.startswith("norm.") else name


def mm_attention(name: str) -> str:
    name = mm_vit(name).replace("attn.qkv.", "attn.attn.in_proj_")
    return name.replace("attn.proj.", "attn.attn.out_proj.")


def mm_convnext(name: str) -> str:
    name = name.replace("dwconv", "depthwise_conv")
    return name.replace("pwconv", "pointwise_conv")


def d2_resnet(name: str) -> str:
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    for i in (1, 2, 3):
        name = name.replace(f"bn{i}", f"conv{i}.norm")
    if not name.startswith("layer"):
        return "stem." + name
    return f"res{int(name[5]) + 1}{name[6:]}"


def dinov2_state(net: nn.Module, registers: bool) -> OrderedDict[str, Tensor]:
    state = OrderedDict(net.state_dict())
    state["mask_token"] = torch.randn(1, state["cls_token"].shape[-1])
    if registers:
        state["register_tokens"] = state.pop("reg_token")
        row = torch.randn_like(state["cls_token"])
        state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
        state["cls_token"] = state["cls_token"] - row
    return state


def _resnet(source: str, content: Callable[[OrderedDict[str, Tensor]], Any], base=RESNET) -> Layout:
    net = random_net(*base)
    return Layout(source, net, content(OrderedDict(net.state_dict())))


def _vit(source: str, content: Callable[[OrderedDict[str, Tensor]], Any], **args: Any) -> Layout:
    net = random_net(VIT[0], {**VIT[1], **args})
    return Layout(source, net, content(OrderedDict(net.state_dict())))


def _moco(state: dict[str, Tensor], head: str) -> dict[str, Any]:
    body = without(state, head)
    weights = under(body, "module.base_encoder.")
    weights |= under({k: v + 1 for k, v in body.items()}, "module.momentum_encoder.")
    weights |= {f"module.base_encoder.{head}.0.weight": torch.randn(4, 4)}
    weights |= {"module.predictor.0.weight": torch.randn(4, 4)}
    return {"epoch": 300, "arch": "x", "state_dict": weights, "optimizer": {"param_groups": []}}


def _sequence(**more: Any) -> dict[str, Any]:
    """An MMSegmentation checkpoint around a backbone's state."""
    heads = {
        "decode_head.conv_seg.weight": torch.randn(4, 4, 1, 1),
        "auxiliary_head.conv_seg.weight": torch.randn(4, 4, 1, 1),
    }
    return {"meta": {"mmengine_version": "0.10.7"}, "state_dict": {**more, **heads}}


def layouts() -> dict[str, Callable[[], Layout]]:
    """Every layout by name; built when called."""
    convnext = lambda: random_net(*CONVNEXT)  # noqa: E731
    convnext2 = lambda: random_net(*CONVNEXT2)  # noqa: E731

    def conv(source: str, net: nn.Module, content: Any) -> Layout:
        return Layout(source, net, content)

    def beit(form: str, **args: Any) -> Layout:
        net = random_net(BEIT[0], {**BEIT[1], **args})
        if form == "finetuned":
            state = OrderedDict(net.state_dict())
            index = {
                f"blocks.{i}.attn.relative_position_index": torch.zeros(3, 3) for i in range(3)
            }
            return Layout("beit", net, {"model": {**state, **index}})
        state = beit_pretrained(net, form)
        if form == "v2":
            state |= under(without(net.state_dict(), "head"), "cls_pt_layers.0.")
        return Layout("beitv2" if form == "v2" else "beit", net, {"model": state})

    shared = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, "global_pool": "token"}
    absolute = {
        "use_abs_pos_emb": True,
        "use_rel_pos_bias": False,
        "init_values": 0,
        "global_pool": "token",
        "embed_dim": 64,
        "num_heads": 1,
    }

    def dinov2(registers: bool) -> Layout:
        arch = "vit_base_patch14_reg4_dinov2" if registers else "vit_base_patch14_dinov2"
        net = random_net(
            arch, {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 56}, num_classes=0
        )
        return Layout("dinov2", net, dinov2_state(net, registers))

    def mmseg_vit(rule: Callable[[str], str], net: nn.Module) -> Layout:
        state = renamed(without(net.state_dict(), "head", "fc_norm"), rule)
        return Layout("openmmlab", net, _sequence(**under(state, "backbone.")))

    def mmseg_mae() -> Layout:
        """A key bias beside the tables: it moves no softmax."""
        more = {"use_abs_pos_emb": True, "global_pool": "token"}
        layout = mmseg_vit(mm_vit, random_net(BEIT[0], {**BEIT[1], **more}))
        state = layout.content["state_dict"]
        for i in range(3):
            q, v = (state.pop(f"backbone.layers.{i}.attn.{n}_bias") for n in "qv")
            state[f"backbone.layers.{i}.attn.qkv.bias"] = torch.cat([q, torch.randn(48), v])
        return layout

    def mm_conv(net: nn.Module) -> Layout:
        state = renamed(without(convnext_state(net), "head", "norm"), mm_convnext)
        norms = {f"backbone.norm{i}.weight": torch.randn(8) for i in range(4)}
        return Layout("openmmlab", net, _sequence(**under(state, "backbone."), **norms))

    def detectron2(prefix: str, numpy: bool) -> Layout:
        net = random_net(*BOTTLENECK)
        state = under(renamed(without(net.state_dict(), "fc"), d2_resnet), prefix)
        state = OrderedDict((k, v) for k, v in state.items() if "num_batches" not in k)
        if prefix:
            state["backbone.fpn_lateral2.weight"] = torch.randn(4, 4, 1, 1)
            state["roi_heads.box_head.fc1.weight"] = torch.randn(4, 4)
        else:
            state["stem.fc.weight"] = torch.randn(5, 4)
        model = {k: v.numpy() for k, v in state.items()} if numpy else state
        content = {"model": model, "__author__": "torchvision", "matching_heuristics": True}
        return Layout("detectron2", net, content)

    return {
        "spark_resnet_encoder": lambda: _resnet("spark", lambda s: without(s, "fc")),
        "spark_resnet_full": lambda: _resnet("spark", lambda s: spark_full(without(s, "fc"))),
        "spark_bottleneck_module": lambda: _resnet(
            "spark", lambda s: {"module": without(s, "fc")}, BOTTLENECK
        ),
        "spark_convnext_encoder": lambda: conv(
            "spark", n := convnext(), without(convnext_state(n), "head", "norm")
        ),
        "spark_convnext_full": lambda: conv(
            "spark", n := convnext(), spark_full(without(convnext_state(n), "head", "norm"))
        ),
        "spark_convnext_without_layer_scale": lambda: conv(
            "spark",
            n := random_net("convnextv2_tiny", {**CONVNEXT[1], "use_grn": False}),
            without(convnext_state(n), "head", "norm"),
        ),
        "convnext_released": lambda: conv(
            "convnext", n := convnext(), {"model": convnext_state(n)}
        ),
        "convnextv2_finetuned": lambda: conv(
            "convnext", n := convnext2(), {"model": convnext_state(n)}
        ),
        "fcmae_released": lambda: conv(
            "fcmae", n := convnext2(), {"model": without(convnext_state(n), "head", "norm")}
        ),
        "fcmae_minkowski": lambda: conv(
            "fcmae",
            n := convnext2(),
            {
                "model": {**minkowski_state(n), **fcmae_rest(40)},
                "optimizer": {"state": {}},
                "epoch": 799,
                "scaler": {"scale": 65536.0},
                "args": Namespace(lr=1e-3, model="convnextv2_atto"),
            },
        ),
        "beit_shared": lambda: beit("shared", **shared),
        "beit_deepspeed": lambda: Layout(
            "beit", (made := beit("shared", **shared)).net, {"module": made.content["model"]}
        ),
        "beit_absolute": lambda: beit("none", **absolute),
        "beit_without_qkv_bias": lambda: beit("shared", **shared, qkv_bias=False),
        "beit_finetuned": lambda: beit("finetuned"),
        "beitv2_pretrained": lambda: beit("v2", **shared),
        "mae": lambda: _vit("mae", lambda s: {"model": without(s, "head")}),
        "mae_visualize": lambda: _vit(
            "mae",
            lambda s: {
                "model": {
                    **without(s, "head"),
                    "mask_token": torch.randn(1, 1, 32),
                    "decoder_embed.weight": torch.randn(32, 64),
                    "decoder_pos_embed": torch.randn(1, 17, 32),
                    "decoder_blocks.0.norm1.weight": torch.randn(32),
                    "decoder_pred.weight": torch.randn(768, 32),
                }
            },
        ),
        "mae_finetuned": lambda: _vit("mae", lambda s: {"model": s}, global_pool="avg"),
        "deit": lambda: _vit("deit", lambda s: {"model": s}),
        "dino": lambda: _vit("dino", lambda s: without(s, "head")),
        "dino_full": lambda: _vit(
            "dino",
            lambda s: {
                "student": under(without(s, "head"), "module.backbone."),
                "teacher": {
                    **under(without(s, "head"), "backbone."),
                    "head.last_layer.weight_v": torch.randn(4, 4),
                },
            },
        ),
        "mocov3": lambda: _vit("mocov3", lambda s: _moco(s, "head")),
        "mocov3_resnet": lambda: _resnet("mocov3_resnet", lambda s: _moco(s, "fc"), BOTTLENECK),
        "timm_vit": lambda: _vit("vit", lambda s: s),
        "timm_convnext": lambda: conv("timm", n := convnext(), OrderedDict(n.state_dict())),
        "torchvision_resnet": lambda: _resnet("resnet", lambda s: s),
        "dinov2": lambda: dinov2(False),
        "dinov2_registers": lambda: dinov2(True),
        "mmseg_resnet": lambda: _resnet(
            "openmmlab", lambda s: _sequence(**under(without(s, "fc"), "backbone."))
        ),
        "mmseg_vit": lambda: mmseg_vit(mm_attention, random_net(*VIT)),
        "mmseg_beit": lambda: mmseg_vit(
            mm_vit, random_net(BEIT[0], {**BEIT[1], "global_pool": "token"})
        ),
        "mmseg_mae": lambda: mmseg_mae(),
        "mmdet_convnext": lambda: mm_conv(convnext()),
        "mmseg_convnextv2": lambda: mm_conv(convnext2()),
        "detectron2_arrays": lambda: detectron2("", numpy=True),
        "detectron2_detector": lambda: detectron2("backbone.bottom_up.", numpy=False),
    }
