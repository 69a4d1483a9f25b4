"""Curves by layer, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pretrain.files.write import atomic_write

Curves = Mapping[str, Sequence[float]]  # label -> one value a layer


def curves_by_layer(path: Path, panels: Mapping[str, Curves], *, marks: str = "o-") -> None:
    """Write one panel a quantity, with a curve an encoder over its layers from the image on."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
        for label, values in curves.items():
            axis.plot(range(1, len(values) + 1), values, marks, markersize=3, label=label)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("layer")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.remove()
    axes[0].legend(fontsize=8)
    atomic_write(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
