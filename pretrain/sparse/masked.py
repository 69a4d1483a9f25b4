"""A timm convnet that sees only the visible patches, and the check that it can."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from pretrain.encoders import FeatureMap, feature_maps, run_encoder
from pretrain.sparse.dense import use_dense
from pretrain.sparse.patches import use_patches, use_plain
from pretrain.sparse.view import DenseView, MaskSlot, PatchView, View

Sparse = Literal["patches", "dense"]
Outputs = list[tuple[str, Tensor]]


def mask_layers(root: nn.Module, slot: MaskSlot, sparse: Sparse) -> None:
    """Make the layers of `root` mask-aware in place; names and tensors stay as they are."""
    (use_patches if sparse == "patches" else use_dense)(root, slot)


class MaskedEncoder:
    """Runs `encoder` on visible patches only.

    Not a module: the encoder keeps its place and its names in the method that owns it. Raises
    ValueError, naming the layer, where the encoder computes something a patch cannot know.
    """

    def __init__(self, encoder: nn.Module, sparse: Sparse = "patches") -> None:
        if sparse not in ("patches", "dense"):
            raise ValueError(f"sparse must be 'patches' or 'dense', got {sparse!r}")
        self.encoder, self.sparse = encoder, sparse
        self.maps = feature_maps(encoder)
        self.patch = self.maps[-1].stride  # pixels along a patch's side
        self.slot = MaskSlot()
        on_meta = next(encoder.parameters()).is_meta  # no numbers to compare
        with _without_zeros(encoder):
            plain = [] if on_meta else _outputs(encoder, self, None)
            mask_layers(encoder, self.slot, "patches")
            if not on_meta:
                _compare(plain, _outputs(encoder, self, _all_visible(self.patch)), encoder)
        if sparse == "dense":
            use_plain(encoder)
            mask_layers(encoder, self.slot, "dense")

    def view(self, visible: Tensor, count: int) -> View:
        """`visible` (B, 1, h, w) bool with `count` visible patches an image, for one pass."""
        kind = DenseView if self.sparse == "dense" else PatchView
        return kind(visible, self.patch, count)

    def __call__(
        self, images: Tensor, view: View, maps: list[FeatureMap] | None = None
    ) -> list[Tensor]:
        """Feature maps (None: all), high resolution first: of the patches, or masked whole ones."""
        with self.slot.using(view):
            return run_encoder(self.encoder, view.inputs(images), maps or self.maps)

    def densified(self, images: Tensor, view: View) -> list[Tensor]:
        """Return all feature maps as (B, C, H', W'), zero where masked."""
        return [view.densify(feature) for feature in self(images, view)]


def visible_count(visible: Tensor, expected: int) -> int:
    """Return the number of visible patches per image, which a mask on a GPU does not tell.

    There and under torch.compile it is `expected`, so that shapes are static and the host does not
    wait. Raises ValueError where images differ in it, or nothing or everything is visible.
    """
    counts = visible.flatten(1).sum(1)
    if torch.compiler.is_compiling() or not visible.is_cpu:
        require(counts == expected, f"every image needs {expected} visible patches")
        return expected
    count, least = int(counts.max()), int(counts.min())
    if count != least or not 0 < count < visible[0].numel():
        raise ValueError(
            f"every image needs the same number of visible patches, between 1 and "
            f"{visible[0].numel() - 1}; got {least} to {count}"
        )
    return count


def require(holds: Tensor, message: str) -> None:
    """Raise ValueError unless `holds` everywhere.

    On a GPU the device checks it in its own time: the host does not wait, and a later call fails
    with a device-side assertion. Nothing is checked under torch.compile.
    """
    if torch.compiler.is_compiling():
        return
    if not holds.is_cpu:
        torch._assert_async(holds.all(), message)
    elif not bool(holds.all()):
        raise ValueError(message)


def _all_visible(patch: int) -> PatchView:
    return PatchView(torch.ones(1, 1, 2, 2, dtype=torch.bool), patch, 4)


def _outputs(encoder: nn.Module, masked: MaskedEncoder, view: PatchView | None) -> Outputs:
    """Return every layer's output for one small image, in the order in which the layers end."""
    side = 2 * masked.patch
    weight = next(encoder.parameters())
    image = torch.linspace(0, 97, 3 * side * side, dtype=weight.dtype, device=weight.device).sin()
    image = image.view(1, 3, side, side)
    started: list[str] = []
    outputs: Outputs = []
    with torch.no_grad(), _evaluating(encoder), _recording(encoder, started, outputs):
        try:
            if view is None:
                run_encoder(encoder, image, masked.maps)
            else:
                with masked.slot.using(view):
                    run_encoder(encoder, view.inputs(image), masked.maps)
        except RuntimeError as error:
            raise _cannot(encoder, started[-1], f"it fails on patches: {error}") from error
    return outputs


def _compare(plain: Outputs, patches: Outputs, encoder: nn.Module) -> None:
    """With every patch visible, each layer must compute what the plain network computes."""
    for (name, whole), (_, parts) in zip(plain, patches, strict=True):
        _, a, b, c = parts.shape
        if whole.shape == parts.shape == (1, a, 1, 1):  # of means over the image
            whole, parts = whole.expand(1, a, 2, 2), parts.expand(4, a, 1, 1)
        if whole.shape == (1, a, 2 * b, 2 * c):
            whole = whole.permute(0, 2, 3, 1)
            parts = parts.permute(0, 2, 3, 1)
        elif whole.shape != (1, 2 * a, 2 * b, c):
            raise _cannot(
                encoder, name, f"{tuple(whole.shape)} a whole, {tuple(parts.shape)} in parts"
            )
        error = _gap(whole, parts)
        if error > 1e-3:
            raise _cannot(encoder, name, f"its output differs by {error:.1e} of its range")


def _gap(whole: Tensor, parts: Tensor) -> float:
    """Largest difference of (1, 2P, 2P, C) and its four patches (4, P, P, C), by its range."""
    rows = torch.cat((torch.cat((parts[0], parts[1]), 1), torch.cat((parts[2], parts[3]), 1)), 0)
    return float((rows - whole[0]).abs().max() / whole.abs().max().clamp(min=1e-12))


def _cannot(encoder: nn.Module, name: str, why: str) -> ValueError:
    kind = type(encoder.get_submodule(name)).__name__
    return ValueError(
        f"{type(encoder).__name__}: layer {name!r} ({kind}) cannot run on visible patches: {why}. "
        "Attention, group norms and windows that leave the grid of patches look past a patch: "
        "choose an architecture without them"
    )


@contextmanager
def _without_zeros(root: nn.Module) -> Iterator[None]:
    """Set vectors of zeros to ones: behind a scale that begins at zero no difference would show."""
    zeros = [p.data for p in root.parameters() if p.ndim == 1 and not p.is_meta and not p.any()]
    for vector in zeros:
        vector.fill_(1)
    try:
        yield
    finally:
        for vector in zeros:
            vector.zero_()


@contextmanager
def _evaluating(root: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in root.modules()}
    root.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _recording(root: nn.Module, started: list[str], outputs: Outputs) -> Iterator[None]:
    def before(name: str):
        return lambda _module, _inputs: started.append(name)

    def after(name: str):
        def record(_module: nn.Module, _inputs: object, out: object) -> None:
            if isinstance(out, Tensor) and out.ndim == 4:
                outputs.append((name, out.clone()))

        return record

    hooks = []
    for name, module in root.named_modules():
        if name:
            hooks += [module.register_forward_pre_hook(before(name))]
            hooks += [module.register_forward_hook(after(name))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
