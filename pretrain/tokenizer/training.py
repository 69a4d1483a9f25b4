"""The loop that trains a tokenizer: images -> a tokenizer file.

    images -> random crops -> a window of each -> discrete VAE -> loss -> AdamW -> file

Everything random is a function of (seed, step), so a resumed run goes on bit for bit on the CPU.
Beside FILE.safetensors the folder FILE/ holds the training state, the log and a picture.
"""

import logging
import math
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain.config import Augmentation, TokenizerSettings
from pretrain.data.batches import Batch, ImageSamples, loader
from pretrain.data.order import Order, Split
from pretrain.data.sources import Images, digest
from pretrain.files.encoder_file import first_not_finite
from pretrain.files.training_state import TrainingState, read_state, write_state
from pretrain.files.write import atomic_write
from pretrain.run import folder
from pretrain.run.log import Report
from pretrain.run.provenance import suite_commit
from pretrain.run.seeds import seed_draws
from pretrain.schedule import Plan
from pretrain.tokenizer.codebook import CodebookUse, central_squares, measure
from pretrain.tokenizer.vae import DiscreteVAE, load_tensors, place_codes, write_tokenizer

log = logging.getLogger(__name__)


SUMMED = ("loss", "reconstruction", "kl", "gradient_norm")


LOG_STEPS = 20  # optimizer steps between lines of the log


PLACING_IMAGES = 64  # whose patches the codes start from


def train_tokenizer(
    fabric: Fabric,
    images: Images,
    settings: TokenizerSettings,
    path: Path,
    *,
    image_size: int,
    augmentation: Augmentation,
    seed: int = 0,
    device_batch_size: int = 64,
    workers: int = 2,
    checkpoint_steps: int = 500,
) -> Path:
    """Train on crops of `image_size` px and write `path`; at once if it is there already.

    Continues from the training state in the folder beside `path` if there is one. SIGTERM or
    SIGINT: saves and raises SystemExit. ArithmeticError if the loss is not finite.
    """
    fabric.barrier()
    if path.is_file():  # with a state beside it if killed at that moment
        (path.with_suffix("") / folder.STATE).unlink(missing_ok=True)
        return path
    if fabric.is_global_zero:
        log.info("training a tokenizer of %d codes: %s", settings.tokenizer_vocab_size, path)
    split = Split.of(
        settings.tokenizer_batch_size, device_batch_size, fabric.world_size, fabric.global_rank
    )
    if len(images) < settings.tokenizer_batch_size:
        raise ValueError(
            f"{len(images)} images do not fill one step of {settings.tokenizer_batch_size}: "
            "lower --tokenizer-batch-size"
        )
    run = TokenizerTraining(fabric, images, settings, split, path, image_size, seed)
    run.restore()
    run.steps(augmentation, workers, checkpoint_steps)
    if fabric.is_global_zero:
        run.finish()
    fabric.barrier()
    return path


class TokenizerTraining:
    """One process of a tokenizer's training."""

    def __init__(
        self, fabric: Fabric, images: Images, settings: TokenizerSettings, split: Split,
        path: Path, image_size: int, seed: int,
    ) -> None:  # fmt: skip
        self.fabric, self.images, self.settings, self.split = fabric, images, settings, split
        self.path, self.folder = path, path.with_suffix("")
        self.image_size, self.seed, self.done = image_size, seed, 0
        torch.manual_seed(seed)
        self.vae = DiscreteVAE(settings.sizes).to(memory_format=torch.channels_last)
        if settings.tokenizer_place_codes:
            place_codes(self.vae, central_squares(images, PLACING_IMAGES, image_size))
        groups = [{"params": list(part.parameters())} for part in self.vae.children()]
        optimizer = torch.optim.AdamW(groups, weight_decay=settings.tokenizer_weight_decay)
        self.model, self.optimizer = fabric.setup(self.vae, optimizer)
        self.average = {
            n: p.detach().clone() for n, p in self.vae.named_parameters() if settings.tokenizer_ema
        }
        self.sums = torch.zeros(len(SUMMED), device=fabric.device)  # since the last line of the log
        self.counts = torch.zeros(settings.tokenizer_vocab_size, device=fabric.device)
        self.log_bytes = self.stop_signal = 0
        self.identity = {**asdict(settings), "image_size": image_size, "seed": seed}

    def restore(self) -> None:
        """Take up the run whose training state lies in the folder, if there is one."""
        file = self.folder / folder.STATE
        if not file.is_file():
            return
        state = read_state(file)
        if state.data != digest(self.images) or state.method["identity"] != self.identity:
            raise ValueError(
                f"{file} belongs to a tokenizer with other settings or images: remove "
                f"{self.folder}, or choose another name"
            )
        self.vae.load_state_dict(state.method["vae"])
        self.optimizer.load_state_dict(state.optimizer)
        for own, saved in ((self.sums, "sums"), (self.counts, "counts")):
            own.copy_(state.method[saved])
        for name, tensor in self.average.items():
            tensor.copy_(state.method["average"][name])
        self.done, self.log_bytes = state.step, state.log_bytes

    def steps(self, augmentation: Augmentation, workers: int, checkpoint_steps: int) -> None:
        """Train to the last step."""
        total, split = self.settings.tokenizer_steps, self.split
        per_epoch = len(self.images) // self.settings.tokenizer_batch_size
        order = Order(len(self.images), self.settings.tokenizer_batch_size, per_epoch, self.seed)
        samples = ImageSamples(self.images, augmentation, (self.image_size,), _no_mask, self.seed)
        pin = self.fabric.device.type == "cuda"
        length = Plan(total, 0, per_epoch)
        batches = loader(samples, order, split, length.steps, self.done, workers, pin)
        report = None
        if self.fabric.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            report = Report(self.folder, self.done, total, self.log_bytes)
        before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        self.model.train()
        try:
            for step in range(self.done, total):
                self.train_step(step, batches)
                self.done = step + 1
                if report:
                    report.passed(self.settings.tokenizer_batch_size)
                if self.done % LOG_STEPS == 0 or self.done == total:
                    self.write_line(report)
                stop = self._stop_asked()
                if stop or self.done % checkpoint_steps == 0:
                    self.save(report)
                if stop:
                    log.info("stopped by a signal after tokenizer step %d", self.done)
                    raise SystemExit(128 + self.stop_signal)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if report:
                report.close()

    def train_step(self, step: int, batches: Iterator[Batch]) -> None:
        """One optimizer step, and the average of weights."""
        settings, split = self.settings, self.split
        rates = (settings.encoder_lr(step), settings.lr(step))  # of encoder and decoder
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        for micro in range(split.accumulation):
            images = next(batches).images.to(self.fabric.device, non_blocking=True)
            seed_draws(self.seed, step, micro, split.rank)
            window = _window(images, settings.tokenizer_crop_px)
            more = micro + 1 < split.accumulation
            with self.fabric.no_backward_sync(self.model, enabled=more and split.world > 1):
                parts = self.model(window, settings.temperature(step), settings.beta(step))
                self.fabric.backward(parts["loss"] / split.accumulation)
            scalars = [parts[name].detach() for name in SUMMED[:3]]
            self.sums[:3] += torch.stack(scalars) / split.accumulation
            self.counts += CodebookUse.count(parts["tokens"], settings.tokenizer_vocab_size)
        norm = nn.utils.clip_grad_norm_(
            self.vae.parameters(), settings.tokenizer_clip_norm or math.inf
        )
        self.sums[3] += norm
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, parameter in self.vae.named_parameters() if self.average else ():
            self.average[name].lerp_(parameter.detach(), 1 - settings.tokenizer_ema)

    def write_line(self, report: Report | None) -> None:
        """The mean of losses and the codes used since the last line; ends on one not finite."""
        means = (self.sums / ((self.done - 1) % LOG_STEPS + 1)).tolist()
        self.require_finite()
        use, settings, step = CodebookUse.of(self.counts), self.settings, self.done - 1
        values = {
            **dict(zip(SUMMED, means, strict=True)),
            "lr": settings.lr(step),
            "temperature": settings.temperature(step),
            "beta": settings.beta(step),
            "perplexity": use.perplexity,
            "codes_used": use.used,
        }
        if report:
            report.line(self.done, values)
        self.sums.zero_()
        self.counts.zero_()

    def require_finite(self) -> None:
        """Raise ArithmeticError if losses or gradients since the last line, or weights, are not."""
        weight = first_not_finite(self.vae.state_dict())
        if not self.sums.isfinite().all() or weight is not None:
            raise ArithmeticError(
                f"the tokenizer's {weight or 'loss or gradient'} is not finite within {LOG_STEPS} "
                f"steps before step {self.done}; an older state may be in {self.folder}; try a "
                "lower --tokenizer-lr"
            )

    def save(self, report: Report | None) -> None:
        """Write the training state as of now."""
        self.require_finite()
        if not report:
            return
        own = {"sums": self.sums, "counts": self.counts, "average": self.average}
        state = TrainingState(
            step=self.done,
            method={"vae": self.vae.state_dict(), "identity": self.identity, **own},
            optimizer=self.optimizer.state_dict(),
            data=digest(self.images),
            losses=[],
            gradient_norms=[],
            log_bytes=report.sync(),
        )
        write_state(self.folder / folder.STATE, state)

    def finish(self) -> None:
        """Count the codes in use, draw the picture, write the tokenizer, drop the state."""
        tensors = {**self.vae.state_dict(), **self.average}
        vae = load_tensors(DiscreteVAE(self.vae.sizes), tensors, "trained").to(self.fabric.device)
        facts, picture = measure(vae, self.images, self.image_size)
        atomic_write(self.folder / folder.PICTURE, lambda p: picture.save(p, "png"))
        data = {"images": len(self.images), "names_sha256": digest(self.images)}
        about = {"training": self.identity, "data": data, "codebook": facts}
        write_tokenizer(self.path, vae, {**about, "commit": suite_commit()})
        (self.folder / folder.STATE).unlink(missing_ok=True)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.stop_signal = number

    def _stop_asked(self) -> bool:
        """Whether any process was; several agree where they meet anyway, at lines of the log."""
        if self.split.world == 1:
            return self.stop_signal > 0
        if self.done % LOG_STEPS:
            return False
        asked = torch.tensor(float(self.stop_signal), device=self.fabric.device)
        total: Any = self.fabric.all_reduce(asked, reduce_op="sum")
        self.stop_signal = self.stop_signal or (signal.SIGTERM if total.item() else 0)
        return self.stop_signal > 0


def _no_mask(_rng: np.random.Generator) -> np.ndarray:
    return np.ones((1, 1), dtype=bool)


def _window(images: Tensor, side: int) -> Tensor:
    """uint8 (B, 3, H, W) -> [0, 1], one random window of `side` px for all; 0: the whole."""
    height, width = images.shape[-2:]
    if side and side < min(height, width):
        top = int(torch.randint(height - side + 1, (1,)))
        left = int(torch.randint(width - side + 1, (1,)))
        images = images[..., top : top + side, left : left + side]
    return images.float().div(255).contiguous(memory_format=torch.channels_last)
