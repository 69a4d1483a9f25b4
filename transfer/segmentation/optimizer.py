"""Layer-wise learning-rate decay in MMEngine, and a stop before a bad loss reaches a weight."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn

from pretrain.run.stop import NotFiniteError
from pretrain.run.update import fuse_on_gpu
from transfer.features.layer_decay import layer_decay_factors, rule_for


class StopsAtNaN:
    """Refuses a loss that is not finite, before its gradient reaches a weight.

    All processes of a run stop together: the others would wait for this one's gradients for ever.
    """

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Update as OptimWrapper does; NotFiniteError where the loss of a process is not finite."""
        finite = torch.isfinite(loss.detach()).all()
        everywhere = finite.float()
        all_reduce(everywhere, "min")
        if not everywhere:
            own = f"the loss is {float(loss.detach())}"
            raise NotFiniteError(own if not finite else ELSEWHERE)
        super().update_params(loss, *args, **kwargs)  # type: ignore[misc]


SMALLEST_LOSS_SCALE = 1.0
ELSEWHERE = "the loss of another process is not finite"


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(StopsAtNaN, OptimWrapper):
    """OptimWrapper that stops at NaN."""


@OPTIM_WRAPPERS.register_module()
class FiniteBfloat16OptimWrapper(FiniteOptimWrapper):
    """Autocast to bfloat16, which needs no loss scaling, on any device."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter the context of a forward pass."""
        with super().optim_context(model), autocast("bf16", model):
            yield


@OPTIM_WRAPPERS.register_module()
class FiniteFloat16OptimWrapper(StopsAtNaN, AmpOptimWrapper):
    """AmpOptimWrapper (float16, dynamic loss scaling, a GPU) that stops at NaN.

    A gradient that is not finite skips its step and halves the scale; below 1 it is not the scale.
    """

    def step(self, **kwargs: Any) -> None:
        """Update as AmpOptimWrapper does; NotFiniteError where no scale makes gradients finite."""
        super().step(**kwargs)
        if (scale := self.loss_scaler.get_scale()) < SMALLEST_LOSS_SCALE:
            raise NotFiniteError(f"the scale of the loss fell to {scale:g}")


WRAPPERS = {
    "fp32": "FiniteOptimWrapper",
    "bf16": "FiniteBfloat16OptimWrapper",
    "fp16": "FiniteFloat16OptimWrapper",
}


def wrapper_type(precision: str) -> str:
    """Return the registered optimizer wrapper for "fp32", "bf16" or "fp16".

    ValueError for fp16 without a GPU.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision=fp16 needs a CUDA device: give precision=bf16 or fp32")
    return WRAPPERS[precision]


def autocast(precision: str, model: nn.Module) -> AbstractContextManager[Any]:
    """Return the context in which a forward pass of `model` computes in `precision`."""
    if precision == "fp32":
        return nullcontext()
    kind = next(model.parameters()).device.type
    return torch.autocast(kind, torch.bfloat16 if precision == "bf16" else torch.float16)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor:
    """Builds parameter groups: the rate times layer_decay_factors, no decay for 1-D and biases.

    paramwise_cfg: `decay` (1.0: none), `rule` ("auto": the architecture's own family),
    `no_weight_decay` ("vectors": 1-D and biases; "nothing"), and further arguments of
    layer_decay_factors. Heads, pyramid and output norms train at the full rate.
    As mmseg LearningRateDecayOptimizerConstructor: cls_token and position tables are decayed.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        self.wrapper_cfg, self.decay_cfg = dict(optim_wrapper_cfg), dict(paramwise_cfg or {})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the wrapper around an optimizer of `model`'s trainable parameters."""
        inner = getattr(model, "module", model)
        cfg = dict(self.wrapper_cfg)
        optimizer = dict(cfg.pop("optimizer"))
        groups = parameter_groups(
            inner, optimizer["lr"], optimizer.get("weight_decay", 0.0), **self.decay_cfg
        )
        cfg["optimizer"] = OPTIMIZERS.build({**optimizer, "params": groups})
        fuse_on_gpu(cfg["optimizer"])
        return OPTIM_WRAPPERS.build(cfg)


def parameter_groups(
    model: Any,
    lr: float,
    weight_decay: float,
    *,
    decay: float = 1.0,
    rule: str = "auto",
    no_weight_decay: str = "vectors",
    **more: Any,
) -> list[dict[str, Any]]:
    """Return a group for each pair of learning-rate factor and weight decay, lowest rate first.

    ValueError where no layer decay rule is known for the architecture.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if decay == 1.0:
        rule = "none"
    elif rule == "auto":
        rule = rule_for(model.backbone.features.arch)
    factors = layer_decay_factors(list(trained), rule=rule, decay=decay, **more)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in trained.items():
        vector = parameter.ndim <= 1 or name.endswith(".bias")
        spared = vector and no_weight_decay == "vectors"
        own_decay = 0.0 if spared else weight_decay
        key = (factors[name], own_decay)
        group = groups.setdefault(
            key, {"params": [], "names": [], "lr": lr * key[0], "weight_decay": own_decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]
