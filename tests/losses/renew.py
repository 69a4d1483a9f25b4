"""Renew the pinned losses of the trainers, or compare them with what the code gives now.

python tests/losses/renew.py [NAME ...]                  run and write NAME.json; default: all
python tests/losses/renew.py --check-exact [NAME ...]    run, fail unless every bit is the same

Each trainer runs a few steps through its command line tool, on a drawn dataset, on one CPU thread.
NAME.json holds what was logged in full precision, the figures of the evaluation, the magnitude of
the trained weights (no loss shows the last update and the average of weights), the command, and the
versions it ran with. tests/test_losses.py compares with room for another kind of CPU. To show that
a change leaves every number alone, on one machine: renew, change, --check-exact.
"""

import argparse
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# What runs: every option is named here and nowhere else. $data is the drawn dataset, $out the run's
# own folder, $fcmae the folder of the run of that name, which goes first. Rates and decays are
# larger than one would train with, so that a few steps show a change of them.
DATASET = """tools/make_shapes.py --out $out --level hard --unlabelled 16 --train 8
    --val 4 --image-size 128 --seed 3 --workers 1"""
PRETRAIN = """--data $data/unlabelled --out $out --steps 6 --warmup-steps 2 --batch-size 8
    --seed 3 --device cpu --log-steps 1 --checkpoint-steps 4 --pictures 1"""
COMMANDS = {
    "spark": f"""tools/pretrain.py configs/pretrain/shapes_spark_resnet.py {PRETRAIN}
        --optimizer lamb --base-lr 1e-2 --workers 1""",
    "fcmae": f"""tools/pretrain.py configs/pretrain/shapes_fcmae_convnextv2.py {PRETRAIN}
        --device-batch-size 4 --drop-path-rate 0.2 --base-lr 4e-3 --weight-decay 0.5 --workers 0""",
    "beit": f"""tools/pretrain.py configs/pretrain/shapes_beit_vit.py {PRETRAIN}
        --arch-args '{{"embed_dim": 96, "depth": 4, "num_heads": 3, "init_values": 0.1}}'
        --drop-path-rate 0.2 --base-lr 4e-3 --weight-decay 0.5 --workers 0
        --tokenizer-steps 6 --tokenizer-batch-size 8 --tokenizer-warmup-steps 2
        --tokenizer-vocab-size 64""",
    "tokenizer": """tools/train_tokenizer.py --data $data/unlabelled
        --out $out/tokenizer.safetensors --image-size 64 --seed 3 --device cpu
        --device-batch-size 4 --workers 0 --checkpoint-steps 15
        --tokenizer-steps 25 --tokenizer-batch-size 8 --tokenizer-warmup-steps 5
        --tokenizer-vocab-size 64 --tokenizer-weight-decay 0.1 --tokenizer-encoder-lr 0.1
        --tokenizer-ema-decay 0.9""",
    "classification": """tools/finetune.py configs/classification/shapes_objects.py --data $data
        --out $out weights=$fcmae/encoder.safetensors seed=3 steps=6 warmup_steps=2 batch_size=8
        device_batch_size=4 base_lr=4e-3 weight_decay=5.0 layer_decay=0.7 drop_path_rate=0.2
        clip_norm=3.0 ema_decay=0.5 repeats=2 mixup=0.8 cutmix=1.0 label_smoothing=0.1
        auto_augment=rand-m9-mstd0.5-inc1 random_erasing=0.25 device=cpu log_steps=1
        checkpoint_steps=4""",
    # after so few steps only many boxes of any score bring the figures above zero
    "detection": """tools/train_net.py --config-file configs/detection/shapes_mask_rcnn.py
        weights=$fcmae/encoder.safetensors data.root=$data output_dir=$out seed=3
        schedule.steps=8 schedule.milestones=[6] schedule.warmup_steps=2
        optimizer.lr=1e-3 optimizer.weight_decay=5.0 layer_decay=0.7
        features.drop_path_rate=0.2 train.accumulation_steps=2 train.ema_decay=0.5 train.device=cpu
        train.log_steps=1
        train.checkpoint_steps=5 model.score_threshold=0.0 model.pre_nms_topk=[200,500]
        model.post_nms_topk=[100,500] model.max_detections=300 test.pictures=1""",
    "segmentation": """tools/train_seg.py configs/segmentation/shapes_upernet.py --work-dir $out
        --cfg-options weights=$beit/encoder.safetensors data_root=$data/ADEChallengeData2016
        classes=shapes9 seed=3 max_iters=6 warmup_iters=2 lr=3e-3 weight_decay=5.0 layer_decay=0.7
        drop_path_rate=0.2 clip_norm=3.0 accumulation_steps=2 ema_decay=0.5
        log_steps=1 checkpoint_steps=4""",
}
PACKAGES = {
    "detection": ("detectron2", "faster-coco-eval"),
    "segmentation": ("onedl-mmsegmentation", "onedl-mmengine", "onedl-mmcv"),
}
ALWAYS = ("torch", "torchvision", "timm", "numpy", "pillow")

Numbers = dict[str, list[float]]  # name -> one value a line of the log


@dataclass(frozen=True)
class Outcome:
    """What a finished run wrote."""

    losses: Numbers
    tensors: Mapping[str, torch.Tensor]  # as trained
    metrics: Mapping[str, float]  # percent


def read_pretraining(out: Path) -> Outcome:
    """Read the folder of tools/pretrain.py."""
    names = ("step", "loss", "gradient_norm", "lr", "weight_decay")
    return Outcome(columns(out / "log.jsonl", names), load_file(out / "encoder.safetensors"), {})


def read_tokenizer(out: Path) -> Outcome:
    """Read what tools/train_tokenizer.py left beside $out/tokenizer.safetensors."""
    names = ("step", "loss", "reconstruction", "kl", "gradient_norm", "lr", "temperature", "beta")
    log = columns(out / "tokenizer" / "log.jsonl", names)
    return Outcome(log, load_file(out / "tokenizer.safetensors"), {})


def read_classification(out: Path) -> Outcome:
    """Read the folder of tools/finetune.py; the accuracy on a dozen images tells nothing."""
    log = columns(out / "log.jsonl", ("step", "loss", "gradient_norm", "lr"))
    return Outcome(log, load_file(out / "classifier.safetensors"), {})


def read_detection(out: Path) -> Outcome:
    """Read the folder of tools/train_net.py."""
    losses = ("loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc")
    log = columns(out / "log.jsonl", ("step", *losses, "gradient_norm", "lr"))
    trained = torch.load(out / "model_final.pth", weights_only=True)["model"]
    return Outcome(log, trained, metrics(out))


def read_segmentation(out: Path) -> Outcome:
    """Read the folder of tools/train_seg.py."""
    names = ("step", "loss", "decode.loss_ce", "aux.loss_ce", "lr")
    trained = torch.load(out / "state.pt", weights_only=True)["values"]["average"]
    return Outcome(columns(out / "log.jsonl", names), trained, metrics(out))


READERS: Mapping[str, Callable[[Path], Outcome]] = {
    "tools/pretrain.py": read_pretraining,
    "tools/train_tokenizer.py": read_tokenizer,
    "tools/finetune.py": read_classification,
    "tools/train_net.py": read_detection,
    "tools/train_seg.py": read_segmentation,
}


def columns(log: Path, names: Iterable[str]) -> Numbers:
    """Return the values of each name over the lines of a log.jsonl."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {name: [float(line[name]) for line in lines] for name in names}


def metrics(out: Path) -> dict[str, float]:
    """Return the figures of a run's record, in percent."""
    found: dict[str, float] = json.loads((out / "result.json").read_text())["metrics"]
    return found


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run the trainer `name` below `folder`, and what it starts from; return what is pinned.

    RuntimeError with the tool's output if it fails.
    """
    command = words(COMMANDS[name])
    if not (folder / name).is_dir():
        folders = {place: folder / place for place in placeholders(command) - {"out"}}
        for place in folders:
            prepare(place, folder)
        unfinished = folder / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that failed
        unfinished.mkdir()
        execute(command, {**folders, "out": unfinished})
        unfinished.rename(folder / name)
    outcome = READERS[command[0]](folder / name)
    return {
        "ran": {"command": " ".join(COMMANDS[name].split()), "with": versions(name)},
        "losses": outcome.losses,
        "metrics": dict(outcome.metrics),
        "weights": {"mean_magnitude": mean_magnitude(outcome.tensors)},
    }


def prepare(place: str, folder: Path) -> None:
    """Make what a command starts from: the dataset, or the folder of another run."""
    if place != "data":
        run(place, folder)
    elif not (folder / place).is_dir():
        execute(words(DATASET), {"out": folder / place})


def words(command: str) -> list[str]:
    """Return the words of a command of the table, placeholders unfilled."""
    return shlex.split(command)


def placeholders(command: Iterable[str]) -> set[str]:
    """Return the names after a $ in a command."""
    return {name for word in command for name in Template(word).get_identifiers()}


def execute(command: Iterable[str], folders: Mapping[str, Path]) -> None:
    """Run one tool of this checkout on one CPU thread; RuntimeError if it fails."""
    filled = [Template(word).substitute(folders) for word in command]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),  # an editable install may be of another checkout
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    call = [sys.executable, *filled]
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{shlex.join(filled)} ended with status {done.returncode}:\n{said}")


def versions(name: str) -> dict[str, str]:
    """Return what the numbers of trainer `name` may depend on besides the code."""
    packages = (*ALWAYS, *PACKAGES.get(name, ()))
    cpu = torch.backends.cpu.get_cpu_capability()
    return {**{package: metadata.version(package) for package in packages}, "cpu": cpu}


def mean_magnitude(tensors: Mapping[str, torch.Tensor]) -> float:
    """Return the mean of |w| over all floating-point tensors, in float64, in whatever order."""
    values = [tensor.double().abs() for tensor in tensors.values() if tensor.is_floating_point()]
    return math.fsum(float(v.sum()) for v in values) / sum(v.numel() for v in values)


@dataclass(frozen=True)
class Difference:
    """One number as pinned and as it is now; None where one of the two lacks it."""

    place: str  # e.g. "losses.loss, line 3"
    pinned: float | None
    now: float | None

    @property
    def relative(self) -> float:
        """Return |pinned - now| over the larger of the two magnitudes; inf where one lacks."""
        if self.pinned is None or self.now is None:
            return math.inf
        if self.pinned == self.now:
            return 0.0
        return abs(self.pinned - self.now) / max(abs(self.pinned), abs(self.now))

    def __str__(self) -> str:
        return f"{self.place}: {self.pinned!r} -> {self.now!r} (relative {self.relative:.1e})"


def compare(pinned: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the comparison of every number of two results of `run`, in their order."""
    before, after = dict(numbers(pinned)), dict(numbers(now))
    return [Difference(p, before.get(p), after.get(p)) for p in {**before, **after}]


def numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every number of a result with the place where it stands."""
    for part in ("losses", "metrics", "weights"):
        for name, value in result[part].items():
            if isinstance(value, list):
                for line, number in enumerate(value, 1):
                    yield f"{part}.{name}, line {line}", number
            else:
                yield f"{part}.{name}", value


def read_pinned(name: str) -> dict[str, Any]:
    """Return the pinned result of trainer `name`."""
    result: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return result


def check_exact(name: str, folder: Path) -> bool:
    """Run `name`, print its largest difference from what is pinned; whether there is none."""
    found = compare(read_pinned(name), run(name, folder))
    largest = max(found, key=lambda d: d.relative)
    same = largest.relative == 0
    print(f"{name:15}{len(found):4} numbers  {'identical' if same else largest}", flush=True)
    return same


def renew(name: str, folder: Path) -> bool:
    """Run `name` and write its file."""
    text = json.dumps(run(name, folder), indent=1)
    one_line_a_list = re.sub(r"\[[^]]*\]", lambda found: " ".join(found[0].split()), text)
    (HERE / f"{name}.json").write_text(one_line_a_list + "\n")
    print(f"{name:15}written", flush=True)
    return True


def main() -> int:
    """Exit status: 0 done, 1 where --check-exact found a difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument("--check-exact", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in COMMANDS]
    if unknown:
        parser.error(f"no trainer {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    act = check_exact if options.check_exact else renew
    with tempfile.TemporaryDirectory() as folder:
        done = [act(name, Path(folder)) for name in options.names or COMMANDS]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
