"""What of the way is a family's own: its data, its weights, its tools, its log.

One process does what the project's tools do, by the same functions; several are started with
torchrun and are the tools themselves.
"""

import json
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from pretrain.run.folder import ENCODER, LOG, RECORD, STATE
from transfer.rehearsal import data, reduce
from transfer.rehearsal.reduce import Family, Plan, Request

ROOT = Path(__file__).resolve().parents[2]
TRAIN_IMAGES, VAL_IMAGES = 6, 3
# the method that encoders of a kind come from
PRETRAINED = {
    "resnet": "spark",
    "convnextv2": "fcmae",
    "convnext": "spark",
    "beit": "beit",
    "vit": "mae",
}
PATIENCE_S = 3600  # for what torchrun has started


class RehearsalError(RuntimeError):
    """A step of the way ended without an error and without what it should have made."""


def require(condition: bool, message: str) -> None:
    """Raise RehearsalError with `message` unless `condition` holds."""
    if not condition:
        raise RehearsalError(message)


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
        """Run the tool in several processes, and pass a signal on to them.

        Raises RehearsalError if it fails.
        """
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
        method = PRETRAINED[reduce.kind_of(arch)]
        net = timm.create_model(arch, pretrained=False, num_classes=0, **arch_args)
        half = (0.5, 0.5, 0.5)
        identity = EncoderIdentity(
            arch=arch,
            arch_args=arch_args,
            method=method,
            input_size=224,
            pixel_mean=half,
            pixel_std=half,
            color_order="RGB",
            steps=1,
            recipe={},
            suite_version="rehearsal",
            commit="rehearsal",
        )
        write_encoder(path, net.state_dict(), identity)
        return path


class Pretraining(Way):
    """Images -> encoder file."""

    family: Family = "pretraining"
    product_name, state_name = ENCODER, STATE

    def prepare(self) -> None:
        """Make the images, the smaller recipe and, if needed, a tokenizer."""
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
        """Return the command line."""
        return ["tools/pretrain.py", *self.options(resume=resume)]

    def call(self, *, resume: bool) -> None:
        """Run in this process."""
        from pretrain.command import run

        run(self.options(resume=resume))

    def check(self) -> None:
        """Raise RehearsalError if the encoder file is empty."""
        from pretrain.files.encoder_file import read_encoder

        tensors, _ = read_encoder(self.product)
        require(bool(tensors), f"{self.product} holds no tensor")


class Detection(Way):
    """Weights and COCO or LVIS -> record."""

    family: Family = "detection"
    product_name, state_name = RECORD, STATE

    def prepare(self) -> None:
        """Make the annotations, the smaller config and the weights."""
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
        """Return the command line."""
        head = ["tools/train_net.py", "--config-file", str(self.config)]
        return [*head, *(["--resume"] if resume else []), *self.options()]

    def call(self, *, resume: bool) -> None:
        """Run in this process."""
        from transfer.detection.config import load_config
        from transfer.detection.run import run

        run(load_config(self.config, self.options()), resume=resume)

    def check(self) -> None:
        """Raise an error if the record is not valid."""
        check_record(self.product)

    def augmented_test(self) -> None:
        """Evaluate with test-time augmentation."""
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
        """Make the label maps, the smaller config and the weights."""
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
        """Return the command line."""
        head = ["tools/train_seg.py", str(self.config), "--work-dir", str(self.out)]
        return [*head, *(["--resume"] if resume else []), "--cfg-options", *self.options()]

    def call(self, *, resume: bool) -> None:
        """Run in this process."""
        from transfer.segmentation.config import load_config
        from transfer.segmentation.run import run

        run(load_config(self.config, self.options()), self.out, resume=resume)

    def check(self) -> None:
        """Raise an error if the record is not valid."""
        check_record(self.product)

    def augmented_test(self) -> None:
        """Evaluate with test-time augmentation."""
        from transfer.segmentation.config import load_config
        from transfer.segmentation.run import evaluate

        more = f"{reduce.KEYS['segmentation']['tta']}={reduce.SEGMENTATION_TTA}"
        evaluate(load_config(self.config, [*self.options(), more]), self.out)


def check_record(path: Path) -> None:
    """Raise RehearsalError for a record without figures, ValueError for an invalid one."""
    from transfer.results.record import read_result

    metrics = read_result(path).metrics
    require(bool(metrics), f"{path} has no figures")


WAYS: dict[str, type[Way]] = {
    "pretraining": Pretraining,
    "detection": Detection,
    "segmentation": Segmentation,
}
