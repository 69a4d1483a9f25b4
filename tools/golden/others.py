"""BEiT, DALL-E's encoder, LAMB and the relative-position resize."""

from typing import Any

import torch
from timm.optim import Lamb

from pretrain.tokenizer.networks import VAESizes
from pretrain.tokenizer.vae import DiscreteVAE, load_tensors
from tools.golden.official import beit_from_official
from transfer.features.position import resize_relative_position

from .cases import Case, Check, Checks


def check_beit(case: Case) -> list[Check]:
    """Check unilm `beit/`: features with and without masks, logits, loss, gradients."""
    size = case.tensors["images"].shape[2]
    model = beit_from_official(
        case.weights, image_size=size, num_heads=case.spec["heads"], drop_path_rate=0.0
    ).to(case.dtype)
    checks = Checks(case)
    checks.inputs("images", "masked", "tokens")
    images, tokens = case.numbers("images"), case.tensors["tokens"].flatten(1)
    visible = ~case.tensors["masked"].bool().view(len(images), 1, *model.grid)
    recorded = {
        "features_masked": lambda: model.features(images, visible),
        "features_unmasked": lambda: model.features(images, None),
        "logits_masked": lambda: model.logits(images, visible),
    }
    with torch.no_grad():
        for name, compute in recorded.items():
            if name in case.tensors:
                checks.compare(name, compute())
    loss = model.loss_from_tokens(images, visible, tokens)
    loss.backward()
    checks.compare("loss", loss)
    own = dict(model.named_parameters())
    for name in case.tensors:
        if name.startswith("grad:"):
            official = name.removeprefix("grad:")
            gradient = own[official if official in own else f"encoder.{official}"].grad
            checks.compare(name, torch.empty(0) if gradient is None else gradient)
    if "grad_norm" in case.tensors:
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        checks.compare("grad_norm", torch.stack(norms).norm())
    return checks.finish()


def check_dalle(case: Case) -> list[Check]:
    """Check DALL-E's encoder: logits, and tokens, which must be equal."""
    names = {"n_hid", "n_blk_per_group", "group_count", "vocab_size"}
    sizes: dict[str, Any] = {k: v for k, v in case.spec.items() if k in names}
    vae = DiscreteVAE(VAESizes(**sizes), with_decoder=False).eval()
    load_tensors(vae, {f"encoder.{n}": t for n, t in case.weights.items()}, str(case.path))
    checks = Checks(case)
    checks.inputs("images")
    with torch.no_grad():
        checks.compare("logits", vae.logits(case.tensors["images"]))
        checks.compare("tokens", vae.tokens(case.tensors["images"]))
    return checks.finish()


def check_lamb(case: Case) -> list[Check]:
    """Check SparK's LAMB: the parameters after each step with the recorded gradients."""
    spec = case.spec
    checks = Checks(case)
    parameters = {
        name.removeprefix("start:"): torch.nn.Parameter(case.numbers(name).clone())
        for name in case.tensors
        if name.startswith("start:")
    }
    checks.inputs(*(n for n in case.tensors if n.startswith(("start:", "gradient:"))))
    groups = [
        {"params": [parameters[n] for n in group["params"]], "weight_decay": group["weight_decay"]}
        for group in spec["groups"]
    ]
    optimizer = Lamb(
        groups,
        lr=spec["lr"],
        betas=tuple(spec["betas"]),
        eps=spec["eps"],
        max_grad_norm=spec["max_grad_norm"],
    )
    for step in range(spec["steps"]):
        change = spec.get(f"change_before_step_{step}", {})
        for group in optimizer.param_groups:
            group["lr"] = change.get("lr", group["lr"])
        if "weight_decay_of_first_group" in change:
            optimizer.param_groups[0]["weight_decay"] = change["weight_decay_of_first_group"]
        for name, parameter in parameters.items():
            parameter.grad = case.numbers(f"gradient:{name}:{step}")
        optimizer.step()
        for name, parameter in parameters.items():
            checks.compare(f"after:{name}:{step}", parameter)
    return checks.finish()


def check_resize(case: Case) -> list[Check]:
    """Check BEiT's relative position tables at other window sizes (the official spline)."""
    checks = Checks(case)
    checks.inputs(*(n for n in case.tensors if n.startswith("table:")))
    for name in case.tensors:
        if name.startswith("resized:"):
            table, _, side = name.removeprefix("resized:").rpartition("_to_")
            old = case.tensors[f"table:{table}"]
            window = (round((len(old) - 3) ** 0.5) + 1) // 2
            new = resize_relative_position(old, window, (int(side) + 1) // 2)
            checks.compare(name, new)
    return checks.finish()
