"""SparK's densify: sparse features and mask tokens -> dense maps for the decoder (section 3.2).

    D = conv(f where visible, the mask token t elsewhere)
      = conv(t everywhere) + conv(f - t where visible, 0 elsewhere)

The first term is one vector in the interior and others along the border; the second needs only the
visible cells: 20 of 49 patches instead of all.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.kernels import on_cpu
from pretrain.sparse import PatchView, View
from pretrain.sparse.products import ScatterProduct
from pretrain.sparse.rows import as_rows


def densify(feature: Tensor, token: Tensor, proj: nn.Module, view: View) -> Tensor:
    """Fill a normalised feature map with its mask token (1, C, 1, 1) -> (B, C', H', W').

    `proj`: the 1 x 1 or 3 x 3 convolution (padding 1) of SparK, or nothing (nn.Identity).
    """
    if not isinstance(view, PatchView) or not on_cpu(feature) or isinstance(proj, nn.Identity):
        return proj(view.densify(feature, token))
    if not isinstance(proj, nn.Conv2d) or proj.kernel_size == (1, 1):
        return view.densify(proj(feature), proj(token))
    return _visible_projection(feature, token, proj, view)


def _visible_projection(feature: Tensor, token: Tensor, conv: nn.Conv2d, view: PatchView) -> Tensor:
    size = feature.shape[2]
    height, width = view.h * size, view.w * size
    weight = conv.weight.permute(1, 2, 3, 0).flatten(1, 2)  # (C, 9, C')
    everywhere = _constant_map(token, conv, height, width)  # (H' * W', C')
    rows = as_rows(feature - token)
    out = ScatterProduct.apply(rows, weight, view.cells_of_taps(size), everywhere, view.batch)
    return out.view(view.batch, height, width, -1).permute(0, 3, 1, 2)


def _constant_map(token: Tensor, conv: nn.Conv2d, height: int, width: int) -> Tensor:
    """Convolve a map that is `token` everywhere, (H * W, C'): first, inner and last rows differ."""
    small = F.conv2d(token.expand(-1, -1, 3, 3), conv.weight, conv.bias, padding=1)[0]
    kinds = small.permute(1, 2, 0)  # (3, 3, C')
    rows = torch.cat((kinds[:1], kinds[1:2].expand(height - 2, -1, -1), kinds[2:]))
    inner = rows[:, 1:2].expand(-1, width - 2, -1)
    return torch.cat((rows[:, :1], inner, rows[:, 2:]), dim=1).flatten(0, 1)
