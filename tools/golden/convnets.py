"""SparK and FCMAE cases: features, prediction, loss, gradients, running statistics."""

import timm
import torch
from torch import nn

from pretrain.encoders import feature_maps, run_encoder
from tools.golden.official import Renamed, fcmae_from_official, spark_from_official
from transfer.weights.architecture import infer_architecture
from transfer.weights.sources import convnext
from transfer.weights.sources.base import Raw

from .cases import Case, Check, Checks, relative_error
from .kinks import Kinks, watch_kinks


def check_spark(case: Case) -> list[Check]:
    """Check keyu-tian/SparK: one forward and backward pass in training mode."""
    renamed = spark_from_official(
        case.weights, image_size=case.tensors["images"].shape[2], sparse=case.sparse
    )
    model = renamed.model.to(case.device, case.dtype).eval()
    checks = Checks(case)
    checks.inputs("images", "visible")
    images, visible = case.numbers("images"), case.mask("visible")
    model.n_visible = int(visible[0].sum())  # on a GPU a mask is not counted
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        for i, feature in enumerate(model.features(images, visible)):
            if f"feature_{i}" in case.tensors:
                checks.compare(f"feature_{i}", feature)
        if "reconstruction" in case.tensors:
            model.load_state_dict(fresh)  # running statistics moved
            checks.compare("reconstruction", model.predict(images, visible))
    model.load_state_dict(fresh)
    return _train(case, renamed, checks)


def check_fcmae(case: Case) -> list[Check]:
    """Check facebookresearch/ConvNeXt-V2: features, prediction, loss, gradients."""
    renamed = fcmae_from_official(
        case.weights,
        image_size=case.tensors["images"].shape[2],
        norm_pix_loss=case.spec.get("norm_pix_loss", True),
        sparse=case.sparse,
    )
    model = renamed.model.to(case.device, case.dtype)
    checks = Checks(case)
    checks.inputs("images", "visible")
    images, visible = case.numbers("images"), case.mask("visible")
    model.n_visible = int(visible[0].sum())  # on a GPU a mask is not counted
    with torch.no_grad():
        plain = run_encoder(model.encoder, images, feature_maps(model.encoder))
        for i, feature in enumerate(plain):
            if f"dense_feature_{i}" in case.tensors:
                checks.compare(f"dense_feature_{i}", feature)
        for i, feature in enumerate(model.features(images, visible)):
            if f"masked_feature_{i}" in case.tensors:
                checks.compare(f"masked_feature_{i}", feature)
        if "prediction" in case.tensors:
            rows = model.predict(images, visible)
            checks.compare("prediction", rows.transpose(1, 2).unflatten(2, model.grid))
        if "logits_dense" in case.tensors:
            checks.compare("logits_dense", _classifier(case)(images))
    return _train(case, renamed, checks)


def check_minkowski(case: Case) -> list[Check]:
    """Check `remap_checkpoint_keys`: every dense tensor by name, and no others."""
    ours = convnext.to_timm(Raw("weights", dict(case.weights))).tensors
    official = convnext.to_timm(Raw("official result", dict(case.tensors)))
    checks = Checks(case)
    for name, recorded in official.origin.items():
        tensor = ours.get(name, torch.empty(0))
        right = tensor.numel() == case.tensors[recorded].numel()
        checks.compare(recorded, tensor.reshape(case.tensors[recorded].shape) if right else tensor)
    extra = sorted(ours.keys() - official.tensors.keys())
    if extra:
        checks.done.append(Check(f"not in the official result: {', '.join(extra)}", float("inf")))
    return checks.finish()


def _train(case: Case, renamed: Renamed, checks: Checks) -> list[Check]:
    """Check loss, gradients under official names, their norm, and buffers after the pass."""
    model = renamed.model
    with watch_kinks(model) as kinks:
        loss = model(case.numbers("images"), case.mask("visible"))
        loss.backward(retain_graph=True)
    checks.compare("loss", loss)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name in case.tensors:
        kind, _, official = name.partition(":")
        if kind == "grad":
            ours = renamed.names.get(official) or renamed.names[f"encoder.{official}"]
            _gradient(checks, name, parameters[ours], kinks)
        elif kind == "after":
            checks.compare(name, buffers[renamed.names[official]])
        elif name == "grad_norm":
            norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            checks.compare(name, torch.stack(norms).norm())
    return checks.finish()


def _gradient(checks: Checks, name: str, parameter: nn.Parameter, kinks: Kinks) -> None:
    gradient, recorded = parameter.grad, checks.case.tensors[name]
    if gradient is None:
        checks.compare(name, torch.empty(0))
    elif relative_error(gradient, recorded) <= checks.case.tolerance:
        checks.compare(name, gradient)
    else:
        gradient, units = kinks.explain(parameter, recorded)
        note = f"{units} unit{'s' * (units != 1)} at a ReLU's kink on the other side"
        checks.compare(name, gradient, note if units else "")


def _classifier(case: Case) -> nn.Module:
    """Build the plain network with its head from the same weights."""
    encoder = convnext.to_timm(Raw("weights", dict(case.weights))).tensors
    head = {
        f"head.fc.{name}": case.weights[f"encoder.head.{name}"].reshape(shape)
        for name, shape in (("weight", (-1, encoder["head.norm.weight"].shape[0])), ("bias", (-1,)))
    }
    arch, arch_args = infer_architecture(encoder, "fcmae", "weights")
    classes = head["head.fc.bias"].shape[0]
    model = timm.create_model(arch, pretrained=False, num_classes=classes, **arch_args)
    own = model.state_dict()
    model.load_state_dict({n: t.reshape(own[n].shape) for n, t in {**encoder, **head}.items()})
    return model.to(case.device, case.dtype).eval()
