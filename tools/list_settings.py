"""Write configs/README.md: every setting of ours with default, type, range and comment.

    python tools/list_settings.py [--check]

The configs' sources are the only place where a setting is explained; this page collects them.
--check writes nothing and ends with status 1 if the page is not what the sources say.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from pretrain.config import BeitSettings, FcmaeSettings, Recipe, SparkSettings
from pretrain.config.declared import declared, either
from pretrain.run.schema import described
from pretrain.run.stop import exit_status
from transfer.classification.config import FineTuning
from transfer.classification.probe_config import Probing

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "configs" / "README.md"
PRETRAIN = [ROOT / "pretrain" / "config" / name for name in ("recipe.py", "tokenizer.py")]
CLASSIFICATION = [
    ROOT / "transfer" / "classification" / name for name in ("config.py", "probe_config.py")
]
DETECTION = ROOT / "configs" / "detection" / "base" / "mask_rcnn.py"
BASES = ROOT / "configs" / "segmentation" / "_base_"
SEGMENTATION = ("run.py", "ade20k.py", "folders.py", "upernet.py", "setr_pup.py")
SIZES = ("VAESizes",)  # computed from options, no options themselves
LONGEST_DEFAULT = 40
INTRODUCTION = """# Configs

One recipe per file; a setting's source stands beside it, and `# not stated in the paper; ours` where
no source states it. This page lists every setting of ours; `python tools/list_settings.py` writes it
from the comments beside the defaults and from what the checks of a run allow: a value outside is
refused before anything is built. Keys of the frameworks (`model`, `train_dataloader`,
`schedule.milestones`, `max_iters`, ...) are as their users know them.

The same thing has the same name everywhere:

| What | Pretraining | Classification | Detection | Segmentation |
|---|---|---|---|---|
| images per optimizer step | `--batch-size` | `batch_size` | `train.batch_size` | `batch_size` |
| forward passes per step | follows from `--device-batch-size` | follows from `device_batch_size` | `train.accumulation_steps` | `accumulation_steps` |
| precision | `--precision` | `precision` | `train.precision` | `precision` |
| largest norm of all gradients, None = off | `--clip-norm` | `clip_norm` | `train.clip_norm` | `clip_norm` |
| decay of the averaged weights, None = off | `--tokenizer-ema-decay` | `ema_decay` | `train.ema_decay` | `ema_decay` |
| stochastic depth | `--drop-path-rate` | `drop_path_rate` | `features.drop_path_rate` | `drop_path_rate` |
| recompute activations | | `grad_checkpointing` | `features.grad_checkpointing` | `grad_checkpointing` |
| learning-rate decay by layer | | `layer_decay` | `layer_decay` | `layer_decay` |
| what is spared from weight decay | `--never-decay` | vectors, class token, positions | `no_weight_decay` | `no_weight_decay` |
| steps between lines of the log | `--log-steps` | `log_steps` | `train.log_steps` | `log_steps` |
| steps between training states | `--checkpoint-steps` | `checkpoint_steps` | `train.checkpoint_steps` | `checkpoint_steps` |
| views of a test image | | | `test.tta` | `tta` |
| findings of the data check to ignore | | `allow_findings` | `allow_findings` | `allow_findings` |

A former name is an error that says the present one.
"""  # noqa: E501


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    check: bool = False
    """Write nothing; status 1 if the page is not what the sources say."""


@dataclass(frozen=True)
class Setting:
    """A setting's name, its default as written (empty if it has none) and its comment."""

    name: str
    default: str
    comment: str


class Source:
    """A Python file and its comments by line."""

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        self.body = ast.parse(text).body
        self.beside: dict[int, str] = {}
        self.above: dict[int, str] = {}  # comments that have their line to themselves
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                alone = not token.line[: token.start[1]].strip()
                comments = self.above if alone else self.beside
                comments[token.start[0]] = token.string.lstrip("# ").strip()

    def setting(self, name: str, node: ast.stmt | ast.expr, default: ast.expr | None) -> Setting:
        """Return the setting whose definition is `node`."""
        text = ast.unparse(default) if default else ""
        shown = text if len(text) <= LONGEST_DEFAULT else "..."
        return Setting(name, shown, self.comment(node))

    def comment(self, node: ast.stmt | ast.expr) -> str:
        """Return the comment beside a node's first or last line, else the lines above it."""
        for line in (node.lineno, node.end_lineno or node.lineno):
            if line in self.beside:
                return self.beside[line]
        first = node.lineno
        while first - 1 in self.above:
            first -= 1
        return " ".join(self.above[line] for line in range(first, node.lineno))


def dataclass_settings(source: Source, options: bool = True) -> Iterator[Setting]:
    """Yield the fields of every dataclass in a file; groups are opened."""
    for node in source.body:
        is_options = isinstance(node, ast.ClassDef) and node.name not in SIZES
        for item in node.body if is_options else ():
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            grouped = item.value is not None and "default_factory" in ast.unparse(item.value)
            if not grouped and "ClassVar" not in ast.unparse(item.annotation):
                name = item.target.id
                option = f"--{name.replace('_', '-')}" if options else name
                yield source.setting(option, item, item.value)


def detection_settings(source: Source) -> Iterator[Setting]:
    """Yield the leaves of `config = dict(...)` by their dotted names."""

    def walk(call: ast.Call, prefix: str) -> Iterator[Setting]:
        for keyword in call.keywords:
            value, name = keyword.value, f"{prefix}{keyword.arg}"
            nested = isinstance(value, ast.Call) and keyword.arg not in ("optimizer",)
            if nested and isinstance(value, ast.Call):
                yield from walk(value, f"{name}.")
            else:
                yield source.setting(name, value, value)

    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "config":
            assert isinstance(node.value, ast.Call)
            yield from walk(node.value, "")


def segmentation_settings(source: Source) -> Iterator[Setting]:
    """Yield the top-level values of a config, without what belongs to MMEngine."""
    for node in source.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name, value = node.targets[0].id, node.value
        if name == "_base_":
            continue
        of_framework = name.endswith(("_dataloader", "_pipeline", "_cfg", "_wrapper", "_evaluator"))
        if of_framework or name in ("model", "param_scheduler", "default_scope", "meta_keys"):
            continue
        yield source.setting(name, node, value)


def settings() -> dict[str, list[Setting]]:
    """Return the settings of each family, each name once."""
    found = {
        "Pretraining": [s for path in PRETRAIN for s in dataclass_settings(Source(path))],
        "Classification": list(dataclass_settings(Source(CLASSIFICATION[0]), options=False)),
        "Probes": list(dataclass_settings(Source(CLASSIFICATION[1]), options=False)),
        "Detection": list(detection_settings(Source(DETECTION))),
        "Segmentation": [
            s for name in SEGMENTATION for s in segmentation_settings(Source(BASES / name))
        ],
    }
    return {family: list({s.name: s for s in each}.values()) for family, each in found.items()}


def allowed() -> dict[str, dict[str, str]]:
    """Return type and range of each family's settings, as the checks of a run have them."""
    # one imports detectron2, the other mmseg
    from transfer.detection.schema import DetectionSettings
    from transfer.segmentation.settings import SegmentationSettings

    methods = (SparkSettings, FcmaeSettings, BeitSettings)
    recipe = {k: v for kind in (*methods, Recipe) for k, v in declared(kind).items()}
    return {
        "Pretraining": {
            "--method": either([method.name for method in methods]),
            **{f"--{name.replace('_', '-')}": words for name, words in recipe.items()},
        },
        "Classification": declared(FineTuning),
        "Probes": declared(Probing),
        "Detection": described(DetectionSettings),
        "Segmentation": described(SegmentationSettings),
    }


def page() -> str:
    """Return configs/README.md."""
    parts, ranges = [INTRODUCTION], allowed()
    for family, found in settings().items():
        parts.append(
            f"\n## {family}\n\n| Setting | Default | Type and range | |\n|---|---|---|---|"
        )
        for setting in found:
            cells = (setting.default, ranges[family].get(setting.name, ""), setting.comment)
            default, words, comment = cells
            texts = (f"`{setting.name}`", _code(default), _cell(words), _cell(comment))
            parts.append(f"| {' | '.join(texts)} |")
    return "\n".join(parts) + "\n"


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: Arguments) -> int:
    """Write or check the page; return the exit status."""
    if not arguments.check:
        PAGE.write_text(page())
        return 0
    if PAGE.is_file() and PAGE.read_text() == page():
        return 0
    print("error: configs/README.md is not what the configs say: run tools/list_settings.py")
    return 1


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(tyro.cli(Arguments, description=__doc__))))
