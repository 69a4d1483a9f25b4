"""BatchNorm over all processes, on a GPU (PyTorch's own) and on a CPU, where PyTorch has none."""

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(model: nn.Module) -> bool:
    """Whether any layer's statistics are those of a batch."""
    return any(isinstance(m, _BatchNorm) for m in model.modules())


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Every BatchNorm of `model` -> one with the statistics of all processes."""
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return _gathered(model)


def _gathered(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        new = GatheredBatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        new.load_state_dict(module.state_dict())
        return new.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _gathered(child))
    return module


class GatheredBatchNorm2d(nn.BatchNorm2d):
    """(B, C, H, W) normalised by the mean and variance over the batches of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """As BatchNorm2d of the whole batch."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(x)
        count = all_reduce(torch.tensor(float(x.numel() // x.shape[1])))
        mean = all_reduce(x.sum((0, 2, 3))) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        self._keep(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        return centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    @torch.no_grad()
    def _keep(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum or 0.1)
        self.running_var.lerp_(unbiased, self.momentum or 0.1)
