"""A config the whole way: data check, training, a stop by signal, resume, evaluation, record.

One process does what the project's tools do, by the same functions; several are started with
torchrun and are the tools themselves.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.run.folder import ENCODER, LOG, RECORD, STATE
from transfer.rehearsal import data, reduce
from transfer.rehearsal.reduce import Family, Plan, Request

ROOT = Path(__file__).resolve().parents[2]
TRAIN_IMAGES, VAL_IMAGES = 6, 3
POLL_S = 0.005
PATIENCE_S = 3600  # for what torchrun has started


@dataclass
class Outcome:
    """What a rehearsal found."""

    config: str
    family: str
    form: str = ""  # of the data
    step_seconds: float = math.nan
    images_per_second: float = math.nan
    peak_memory_mib: float = math.nan
    hours: float = math.nan  # of the whole schedule at full size
    seconds: float = 0.0  # that the rehearsal took
    stage: str = ""  # at which it failed
    failure: str = ""  # empty: all went well
    traceback: str = ""  # its file
    notes: tuple[str, ...] = field(default_factory=tuple)


class RehearsalError(RuntimeError):
    """A step of the way ended without an error and without what it should have made."""


def rehearse(config: Path, folder: Path, request: Request) -> Outcome:
    """Go the whole way with `config` in `folder`; a failure ends up in the outcome."""
    outcome = Outcome(config.stem, "")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        outcome.family = reduce.family_of(config)
        _whole_way(config, folder, request, outcome)
        outcome.stage = ""
        shutil.rmtree(folder)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the others go on
        outcome.failure = _first_line(error)
        outcome.traceback = str(folder / "traceback.txt")
        Path(outcome.traceback).write_text(traceback.format_exc())
    outcome.seconds = time.perf_counter() - started
    return outcome


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _whole_way(config: Path, folder: Path, request: Request, outcome: Outcome) -> None:
    outcome.stage = "preparation"
    way = WAYS[outcome.family](config, folder, request)
    outcome.form, outcome.notes = way.form, way.plan.notes
    outcome.stage = "training"
    with signal_when(way.state.is_file) as sent:
        way.start(resume=False)
    _require(sent.is_set(), f"it ended before it was stopped: {way.state} was not seen")
    _require(way.state.is_file(), f"there is no {way.state} to resume from")
    _require(not way.product.is_file(), "it did not stop at SIGTERM: raise --steps")
    first_part = len(way.log())
    outcome.stage = "resume"
    way.start(resume=True)
    _require(way.product.is_file(), f"it ended without {way.product.name}")
    _measure(way, first_part, outcome)
    outcome.stage = "result"
    way.check()
    outcome.stage = "test-time augmentation"
    way.augmented_test()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RehearsalError(message)


@contextlib.contextmanager
def signal_when(there: Callable[[], bool]) -> Iterator[threading.Event]:
    """Send this process SIGTERM as soon as `there()`; the event tells whether that happened."""
    sent, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if there():
                sent.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # where nothing else listens
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield sent
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)


def _measure(way: "Way", first_part: int, outcome: Outcome) -> None:
    """Note the speed of steps that are not the first of a process, if there is one."""
    lines = way.log()
    warm = [line for i, line in enumerate(lines) if i not in (0, first_part)] or lines
    if not warm:
        return
    outcome.images_per_second = statistics.median(line["images_per_second"] for line in warm)
    outcome.step_seconds = way.plan.batch / max(outcome.images_per_second, 1e-9)
    outcome.peak_memory_mib = max(line.get("peak_memory_mib", math.nan) for line in lines)
    if way.request.full_size:
        outcome.hours = reduce.hours(way.plan, outcome.step_seconds)


class Way:
    """What of the way is the family's own."""

    family: Family
    product_name: str  # what a finished run has
    state_name: str
    form = ""
    plan: Plan

    def __init__(self, config: Path, folder: Path, request: Request) -> None:
        self.config, self.folder, self.request = config, folder, request
        self.out, self.data = folder / "run", folder / "data"
        self.state, self.product = self.out / self.state_name, self.out / self.product_name
        self.prepare()

    def prepare(self) -> None:
        """Make the data and weights, and the plan."""
        raise NotImplementedError

    def arguments(self, *, resume: bool) -> list[str]:
        """Return the tool and its arguments."""
        raise NotImplementedError

    def call(self, *, resume: bool) -> None:
        """Do the same in this process. SystemExit after a signal."""
        raise NotImplementedError

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the log that tell of speed, a line a step."""
        path = self.out / LOG
        lines = path.read_text().splitlines() if path.is_file() else []
        return [line for line in map(json.loads, lines) if "images_per_second" in line]

    def check(self) -> None:
        """Raise what is wrong with the product."""

    def augmented_test(self) -> None:
        """Evaluate with test-time augmentation, where there is any."""

    def start(self, *, resume: bool) -> None:
        """Run, in this process or several, to the end or to a signal."""
        if self.request.processes > 1:
            self.torchrun(resume=resume)
            return
        try:
            self.call(resume=resume)
        except SystemExit as end:
            if end.code != 128 + signal.SIGTERM:
                raise

    def torchrun(self, *, resume: bool) -> None:
        """Run the tool in several processes, and pass a signal on to them."""
        count = str(self.request.processes)
        head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command = [*head, count, *self.arguments(resume=resume)]
        task = subprocess.Popen(command, cwd=ROOT)
        before = signal.signal(signal.SIGTERM, lambda *_: task.terminate())
        try:
            status = task.wait(PATIENCE_S)
        finally:
            task.kill()
            signal.signal(signal.SIGTERM, before)
        if status and (resume or not self.state.is_file()):
            raise RehearsalError(f"status {status}; see {self.folder / 'output.txt'}")

    def encoder(self) -> Path:
        """Write an encoder file of the plan's architecture with random weights."""
        import timm

        from pretrain.files.encoder_file import EncoderIdentity, write_encoder

        path = self.folder / "encoder.safetensors"
        arch, arch_args = self.plan.arch, self.plan.arch_args
        net = timm.create_model(arch, pretrained=False, num_classes=0, **arch_args)
        half = (0.5, 0.5, 0.5)
        identity = EncoderIdentity(
            arch=arch, arch_args=arch_args, method="rehearsal", input_size=224, pixel_mean=half,
            pixel_std=half, color_order="RGB", steps=1, recipe={}, suite_version="rehearsal",
            commit="rehearsal",
        )  # fmt: skip
        write_encoder(path, net.state_dict(), identity)
        return path


class Pretraining(Way):
    """Images -> encoder file."""

    family: Family = "pretraining"
    product_name, state_name = ENCODER, STATE

    def prepare(self) -> None:
        from pretrain.config import load_recipe

        recipe = load_recipe(self.config)
        self.plan = reduce.pretraining(recipe, self.folder / "tokenizer.safetensors", self.request)
        place = zlib.crc32(self.config.stem.encode()) % len(data.IMAGE_FORMS)
        self.form = data.IMAGE_FORMS[place]
        count = max(data.CONTENTS, self.plan.batch)
        self.images = data.make_images(self.data, data.IMAGE_FORMS[place], count)
        if getattr(recipe.method, "tokenizer", ""):
            self.make_tokenizer()

    def make_tokenizer(self) -> None:
        """Write a tokenizer in DALL-E's form with random weights."""
        from pretrain.config.tokenizer import VAESizes
        from pretrain.tokenizer.vae import DiscreteVAE, write_tokenizer

        small = VAESizes(vocab_size=32, n_hid=8, n_blk_per_group=1, n_init=8)
        sizes = VAESizes() if self.request.full_size else small
        vae = DiscreteVAE(sizes, with_decoder=False)
        write_tokenizer(self.folder / "tokenizer.safetensors", vae, {"made": "for a rehearsal"})

    def options(self, *, resume: bool) -> list[str]:
        """Return the arguments of the tool."""
        places = ["--data", str(self.images), "--out", str(self.out)]
        return [str(self.config), *places, *self.plan.flags(), *(["--resume"] if resume else [])]

    def arguments(self, *, resume: bool) -> list[str]:
        return ["tools/pretrain.py", *self.options(resume=resume)]

    def call(self, *, resume: bool) -> None:
        from pretrain.command import run

        run(self.options(resume=resume))

    def check(self) -> None:
        from pretrain.files.encoder_file import read_encoder

        tensors, _ = read_encoder(self.product)
        _require(bool(tensors), f"{self.product} holds no tensor")


class Detection(Way):
    """Weights and COCO or LVIS -> record."""

    family: Family = "detection"
    product_name, state_name = RECORD, STATE

    def prepare(self) -> None:
        from transfer.detection.config import load_config

        named = [f"data.{s}_{k}=x" for s in ("train", "val") for k in ("json", "images")]
        config = load_config(self.config, named)
        self.form = "lvis" if config.data.name.startswith("lvis") else "coco"
        kind: Any = self.form
        files = data.make_instances(self.data, kind, TRAIN_IMAGES, VAL_IMAGES)
        self.plan = reduce.detection(config, files, self.request)
        self.weights = self.encoder()

    def options(self) -> list[str]:
        """Return the settings that differ from the config's."""
        return [*self.plan.words(), f"weights={self.weights}", f"output_dir={self.out}"]

    def arguments(self, *, resume: bool) -> list[str]:
        head = ["tools/train_net.py", "--config-file", str(self.config)]
        return [*head, *(["--resume"] if resume else []), *self.options()]

    def call(self, *, resume: bool) -> None:
        from transfer.detection.config import load_config
        from transfer.detection.run import run

        run(load_config(self.config, self.options()), resume=resume)

    def log(self) -> list[dict[str, Any]]:
        path = self.out / "metrics.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [
            {"images_per_second": self.plan.batch / line["time"]} for line in lines if "time" in line
        ]

    def check(self) -> None:
        check_record(self.product)

    def augmented_test(self) -> None:
        from transfer.detection.config import load_config
        from transfer.detection.run import eval_only

        config = load_config(self.config, self.options())
        more = reduce.detection_tta(config)
        eval_only(load_config(self.config, [*self.options(), *more]))


class Segmentation(Way):
    """Weights and label maps -> record."""

    family: Family = "segmentation"
    product_name, state_name = RECORD, STATE

    def prepare(self) -> None:
        from transfer.segmentation.config import load_config
        from transfer.segmentation.data import class_names

        config = load_config(self.config)
        classes, _ = class_names(config["classes"] or ["ground", "thing"])
        folders = data.LabelFolders(
            images=(config["train_images"], config["val_images"]),
            labels=(config["train_labels"], config["val_labels"]),
            image_suffix=config["image_suffix"] or ".jpg",
            label_suffix=config["label_suffix"],
            values=len(classes) + bool(config["reduce_zero_label"]),
        )
        self.form = f"{len(classes)} classes"
        shrink = 1 if self.request.full_size else 4
        root = data.make_label_maps(self.data, folders, TRAIN_IMAGES, VAL_IMAGES - 1, shrink)
        self.plan = reduce.segmentation(config, root, self.request)
        self.weights = self.encoder()

    def options(self) -> list[str]:
        """Return the settings that differ from the config's."""
        return [*self.plan.words(), f"weights={self.weights}"]

    def arguments(self, *, resume: bool) -> list[str]:
        head = ["tools/train_seg.py", str(self.config), "--work-dir", str(self.out)]
        return [*head, *(["--resume"] if resume else []), "--cfg-options", *self.options()]

    def call(self, *, resume: bool) -> None:
        from transfer.segmentation.config import load_config
        from transfer.segmentation.run import run

        run(load_config(self.config, self.options()), self.out, resume=resume)

    def check(self) -> None:
        check_record(self.product)

    def augmented_test(self) -> None:
        from transfer.segmentation.config import load_config
        from transfer.segmentation.run import evaluate

        more = f"{reduce.KEYS['segmentation']['tta']}={reduce.SEGMENTATION_TTA}"
        evaluate(load_config(self.config, [*self.options(), more]), self.out)


def check_record(path: Path) -> None:
    """Raise RehearsalError for a record without figures; ValueError for one that is none."""
    from transfer.results.record import read_result

    metrics = read_result(path).metrics
    _require(bool(metrics), f"{path} has no figures")


WAYS: dict[str, type[Way]] = {
    "pretraining": Pretraining, "detection": Detection, "segmentation": Segmentation
}  # fmt: skip
