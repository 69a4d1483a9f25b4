"""Layer-wise learning-rate decay in MMEngine, and a stop before a bad loss reaches a weight."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn

from transfer.features.layer_decay import layer_decay_factors, rule_for


class NotFiniteError(FloatingPointError):
    """The loss is NaN or infinite."""


class StopsAtNaN:
    """Refuses a loss that is not finite, before its gradient reaches a weight."""

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As OptimWrapper.update_params."""
        if not torch.isfinite(loss):
            raise NotFiniteError(f"the loss is {float(loss.detach())}")
        super().update_params(loss, *args, **kwargs)  # type: ignore[misc]


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(StopsAtNaN, OptimWrapper):
    """OptimWrapper that stops at NaN."""


@OPTIM_WRAPPERS.register_module()
class FiniteBfloat16OptimWrapper(FiniteOptimWrapper):
    """Autocast to bfloat16, which needs no loss scaling, on any device."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a forward pass."""
        kind = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(kind, torch.bfloat16):
            yield


@OPTIM_WRAPPERS.register_module()
class FiniteFloat16OptimWrapper(StopsAtNaN, AmpOptimWrapper):
    """AmpOptimWrapper (float16, dynamic loss scaling, a GPU) that stops at NaN."""


def wrapper_type(amp: bool, dtype: str) -> str:
    """The registered optimizer wrapper for a precision."""
    if not amp:
        return "FiniteOptimWrapper"
    if dtype == "bfloat16":
        return "FiniteBfloat16OptimWrapper"
    if dtype == "float16" and torch.cuda.is_available():
        return "FiniteFloat16OptimWrapper"
    raise ValueError(
        f"amp_dtype={dtype!r}: bfloat16 runs anywhere, float16 on a GPU alone, and nothing else is "
        "supported; amp=False computes in float32"
    )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor:
    """Parameter groups: the learning rate times layer_decay_factors, no decay for 1-D and biases.

    paramwise_cfg: `decay` (1.0: none), `rule` (None: the architecture's own family), `norms` (decay
    1-D and biases as well), and further arguments of layer_decay_factors. Heads, pyramid and
    output norms train at the full rate.
    As mmseg LearningRateDecayOptimizerConstructor: cls_token and position tables are decayed.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        self.wrapper_cfg, self.decay_cfg = dict(optim_wrapper_cfg), dict(paramwise_cfg or {})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The wrapper around an optimizer of `model`'s trainable parameters."""
        inner = getattr(model, "module", model)
        cfg = dict(self.wrapper_cfg)
        optimizer = dict(cfg.pop("optimizer"))
        groups = parameter_groups(
            inner, optimizer["lr"], optimizer.get("weight_decay", 0.0), **self.decay_cfg
        )
        cfg["optimizer"] = OPTIMIZERS.build({**optimizer, "params": groups})
        return OPTIM_WRAPPERS.build(cfg)


def parameter_groups(
    model: Any,
    lr: float,
    weight_decay: float,
    *,
    decay: float = 1.0,
    rule: str | None = None,
    norms: bool = False,
    **more: Any,
) -> list[dict[str, Any]]:
    """One group for each pair of learning-rate factor and weight decay, lowest rate first."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if decay == 1.0:
        rule = "none"
    elif rule is None:
        rule = rule_for(model.backbone.features.arch)
    factors = layer_decay_factors(list(trained), rule=rule, decay=decay, **more)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in trained.items():
        spared = not norms and (parameter.ndim <= 1 or name.endswith(".bias"))
        own_decay = 0.0 if spared else weight_decay
        key = (factors[name], own_decay)
        group = groups.setdefault(
            key, {"params": [], "names": [], "lr": lr * key[0], "weight_decay": own_decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]
