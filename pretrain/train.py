"""The training loop: recipe and images -> encoder file.

    launch -> images -> method -> optimizer -> [resume or init] -> steps -> pictures, encoder file

Everything random is a function of (seed, step), so a resumed run goes on bit for bit on the CPU.
"""

import json
import logging
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning_fabric
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain import __version__
from pretrain.config import Recipe
from pretrain.data.batches import Batch, ImageSamples, loader
from pretrain.data.checked import checked_images
from pretrain.data.order import Order, Split
from pretrain.data.sources import Images, digest
from pretrain.files.encoder_file import EncoderIdentity, first_not_finite, write_encoder
from pretrain.files.lineage import Stage
from pretrain.files.training_state import TrainingState, read_state, write_state
from pretrain.files.write import atomic_write
from pretrain.methods import Method, build_method
from pretrain.methods.beit import BEiT
from pretrain.methods.build import crop_sizes, mask_drawer
from pretrain.pictures import picture_batch, reconstructions
from pretrain.prepare import initialise, introduce, tokenizer_file
from pretrain.run import folder
from pretrain.run.log import Report
from pretrain.run.processes import launch
from pretrain.run.provenance import suite_commit
from pretrain.run.seeds import seed_draws
from pretrain.run.sheet import spread
from pretrain.run.stop import NonFiniteLossError
from pretrain.schedule import (
    Plan,
    build_optimizer,
    clip_outside,
    learning_rate,
    plan,
    set_step,
    weight_decay,
)
from pretrain.sparse.dense import synchronised_over_visible

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    resume: bool = False,
    init: Path | None = None,
    skip_unreadable: bool = False,
) -> int:
    """Run `recipe` on the images at `data` into the folder `out`.

    0 when done, 128 + the number of a signal that stopped it once it had saved its state.

    Raises ValueError or FileNotFoundError before the first step if anything does not fit, and
    NonFiniteLossError at a step that cannot go on.
    """
    fabric = launch(recipe.run.device, recipe.run.precision)
    resume = resume and (out / folder.STATE).is_file()
    images = checked_images(fabric, data, out, resume, skip_unreadable)
    length = plan(recipe, len(images))
    split = Split.of(
        recipe.batch_size, recipe.run.device_batch_size, fabric.world_size, fabric.global_rank
    )
    tokenizer = tokenizer_file(fabric, recipe, images, out)
    torch.manual_seed(recipe.seed)
    method = build_method(recipe, tokenizer)
    if init and not resume:
        initialise(method, init)
    if fabric.world_size > 1:
        method = synchronised_over_visible(method, fabric.device)
    run = Training(fabric, recipe, images, length, split, method, out)
    first = run.restore(read_state(out / folder.STATE)) if resume else 0
    if fabric.is_global_zero:
        introduce(recipe, method, images, split, length, first if resume else None)
        atomic_write(out / folder.RECIPE, lambda p: p.write_text(json.dumps(recipe.to_json())))
    return run.steps_from(first)


class Training:
    """One process of a run."""

    def __init__(
        self, fabric: Fabric, recipe: Recipe, images: Images, length: Plan, split: Split,
        method: Method, out: Path,
    ) -> None:  # fmt: skip
        self.fabric, self.recipe, self.images, self.out = fabric, recipe, images, out
        self.length, self.split, self.method = length, split, method
        self.order = Order(len(images), recipe.batch_size, length.steps_per_epoch, recipe.seed)
        self.sizes, self.draw_mask = crop_sizes(recipe, method), mask_drawer(recipe, method)
        named = list(method.named_parameters())
        self.optimizer = build_optimizer(named, recipe.optimizer, recipe.peak_lr())
        compiled: Any = torch.compile(method) if recipe.run.compile else method
        self.model, self.update = fabric.setup(compiled, self.optimizer)
        self.parameters = [p for _, p in named if p.requires_grad]
        self.data, self.commit = digest(images), suite_commit()
        self.fresh: list[Tensor] = []  # (loss, gradient norm) of steps not yet looked at
        self.losses: list[float] = []  # of the steps since the last line of the log
        self.norms: list[float] = []
        self.saved = self.log_bytes = self.stop_signal = 0
        self.report: Report | None = None

    def restore(self, state: TrainingState) -> int:
        """Take up the run at the state; the number of steps done."""
        if state.data != self.data:
            raise ValueError("the training state belongs to other images: give another --out")
        self.method.load_state_dict(state.method)
        self.optimizer.load_state_dict(state.optimizer)
        self.losses, self.norms = list(state.losses), list(state.gradient_norms)
        self.saved, self.log_bytes = state.step, state.log_bytes
        return state.step

    def steps_from(self, first: int) -> int:
        """Train from step `first` to the end of the run, and finish it."""
        if self.fabric.is_global_zero:
            self.report = Report(self.out, first, self.length.steps, self.log_bytes)
        before = self.catch_signals()
        self.model.train()
        batches = self.batches(first)
        try:
            for step in range(first, self.length.steps):
                self.train_step(step, batches)
                if self.look(step + 1):
                    self.save(step + 1)
                    log.info("stopped by a signal after step %d; --resume goes on", step + 1)
                    return 128 + (self.stop_signal or signal.SIGTERM)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.report:
                self.report.close()
        self.finish()
        return 0

    def batches(self, first: int) -> Iterator[Batch]:
        """This process's batches from step `first` on."""
        recipe = self.recipe
        samples = ImageSamples(
            self.images, recipe.augmentation, self.sizes, self.draw_mask, recipe.seed
        )
        pin = self.fabric.device.type == "cuda"
        return loader(
            samples, self.order, self.split, self.length.steps, first, recipe.run.workers, pin
        )

    def train_step(self, step: int, batches: Iterator[Batch]) -> None:
        """One optimizer step: `accumulation` forward and backward passes, clipping, the update."""
        recipe, split = self.recipe, self.split
        lr = learning_rate(recipe.schedule, recipe.peak_lr(), self.length, step)
        set_step(self.optimizer, lr, weight_decay(recipe.optimizer, self.length, step))
        loss = torch.zeros((), device=self.fabric.device)
        for micro in range(split.accumulation):
            inputs = next(batches).inputs(self.fabric.device, recipe.augmentation)
            seed_draws(recipe.seed, step, micro, split.rank)
            more = micro + 1 < split.accumulation
            with self.fabric.no_backward_sync(self.model, enabled=more and split.world > 1):
                part = self.model(*inputs) / split.accumulation
                self.fabric.backward(part)
            loss += part.detach()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        clip = clip_outside(recipe.optimizer)
        if clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, clip, norm)
        self.update.step()
        self.update.zero_grad()
        self.fresh.append(torch.stack((loss, norm)))
        if self.report:
            self.report.passed(recipe.batch_size)

    def look(self, done: int) -> bool:
        """After `done` steps: log and save where it is due; whether a signal asks to stop.

        Only here does the host wait for the device, and processes agree on what to do.
        """
        run, last = self.recipe.run, done == self.length.steps
        log_due, save_due = done % run.log_steps == 0 or last, done % run.checkpoint_steps == 0
        if not (log_due or save_due or (self.split.world == 1 and self.stop_signal)):
            return False
        stop = self.gather(done)
        if log_due:
            self.write_line(done)
        if save_due or last:
            self.save(done)
        return stop and not last

    def gather(self, done: int) -> bool:
        """Bring the fresh losses to the host; whether any process was asked to stop."""
        values = torch.stack(self.fresh)  # (steps, 2)
        stop = self.stop_signal > 0
        if self.split.world > 1:
            values = self.mean(values)
            stop = self.mean(torch.tensor(float(stop), device=self.fabric.device)).item() > 0
        rows = values.tolist()
        for i, row in enumerate(rows):
            if not all(map(math.isfinite, row)):
                raise NonFiniteLossError(self.non_finite(done - len(rows) + i, *row))
        self.losses += [loss for loss, _ in rows]
        self.norms += [norm for _, norm in rows]
        self.fresh.clear()
        return stop

    def mean(self, values: Tensor) -> Tensor:
        """Over the processes."""
        return cast("Tensor", self.fabric.all_reduce(values, reduce_op="mean"))

    def non_finite(self, step: int, loss: float, norm: float) -> str:
        """What to say about a loss or gradient of step `step` that is not finite."""
        names = [self.images.name(i) for i in self.order.step(step)]
        shown = "\n".join(f"  {name}" for name in names[:20])
        more = f"\n  ... and {len(names) - 20} more" if len(names) > 20 else ""
        return (
            f"step {step + 1}: the loss is {loss}, the norm of the gradients {norm}\n"
            f"{self.last_good()}\nimages of the step:\n{shown}{more}\n"
            "try a lower --base-lr, --clip-norm, or --precision fp32"
        )

    def last_good(self) -> str:
        """Say where the last training state without NaN lies."""
        saved = f"{self.out / folder.STATE}, after step {self.saved}" if self.saved else "none"
        return f"last good training state: {saved}"

    def require_finite_weights(self, done: int) -> None:
        """Raise NonFiniteLossError if a weight is not finite after `done` steps.

        A step's loss is computed before its update, so the last update shows in no loss.
        """
        name = first_not_finite(self.method.state_dict())
        if name is not None:
            raise NonFiniteLossError(
                f"after step {done}, {name} holds values that are not finite\n{self.last_good()}\n"
                "try a lower --base-lr or --final, --clip-norm, or --precision fp32"
            )

    def write_line(self, done: int) -> None:
        """The mean over the steps since the last line."""
        recipe, step = self.recipe, done - 1
        values = {
            "epoch": self.order.epoch(step) + 1,
            "loss": sum(self.losses) / len(self.losses),
            "lr": learning_rate(recipe.schedule, recipe.peak_lr(), self.length, step),
            "weight_decay": weight_decay(recipe.optimizer, self.length, step),
            "gradient_norm": sum(self.norms) / len(self.norms),
        }
        self.losses, self.norms = [], []
        if self.report:
            self.report.line(done, values)

    def save(self, done: int) -> None:
        """Training state and encoder as of now; the losses were found finite."""
        self.require_finite_weights(done)
        if self.report and self.saved != done:
            state = TrainingState(
                step=done,
                method=self.method.state_dict(),
                optimizer=self.optimizer.state_dict(),
                data=self.data,
                losses=self.losses,
                gradient_norms=self.norms,
                log_bytes=self.report.sync(),
            )
            write_state(self.out / folder.STATE, state)
            self.write_encoder(self.out / folder.LATEST_ENCODER, done)
        self.saved = done

    def write_encoder(self, path: Path, done: int) -> None:
        """The encoder file of the weights as they are after `done` steps."""
        method, settings = self.method, self.recipe.augmentation
        tokenizer = {"tokenizer": method.tokenizer_digest} if isinstance(method, BEiT) else {}
        identity = EncoderIdentity(
            arch=method.arch,
            arch_args=method.arch_args,
            method=self.recipe.method.name,
            input_size=self.recipe.image_size,
            pixel_mean=settings.pixel_mean,
            pixel_std=settings.pixel_std,
            color_order="RGB",
            steps=done,
            recipe=self.recipe.to_json(),
            suite_version=__version__,
            commit=self.commit,
            stages=(self.stage(done),),
            extra={**tokenizer, "images": len(self.images), "torch": torch.__version__,
                   "lightning_fabric": lightning_fabric.__version__},
        )  # fmt: skip
        write_encoder(path, method.encoder_state(), identity)

    def stage(self, done: int) -> Stage:
        """Return this pretraining as a stage of the encoder's lineage."""
        return Stage(
            method=self.recipe.method.name,
            data=f"{len(self.images):,} images {self.data[:12]}",
            labels=False,
            steps=done,
            input_size=self.recipe.image_size,
            seed=self.recipe.seed,
        )

    def finish(self) -> None:
        """Pictures, then the encoder file, whose presence means that the run is done."""
        self.require_finite_weights(self.length.steps)
        if self.fabric.is_global_zero:
            numbers = spread(len(self.images), self.recipe.run.pictures)
            batch = picture_batch(self.images, numbers, self.recipe, self.method)
            sheet = reconstructions(self.method, batch, self.recipe)
            atomic_write(self.out / folder.PICTURE, lambda p: sheet.save(p, "png"))
            (self.out / folder.LATEST_ENCODER).unlink(missing_ok=True)
            self.write_encoder(self.out / folder.ENCODER, self.length.steps)
            log.info("encoder: %s", self.out / folder.ENCODER)
        self.fabric.barrier()

    def catch_signals(self) -> dict[int, Any]:
        """SIGTERM and SIGINT ask for an end after the step at hand; the handlers of before.

        A second Ctrl-C ends at once; a second SIGTERM does not, since a launcher may send one to
        the process and one to its group.
        """

        def note(number: int, _frame: FrameType | None) -> None:
            self.stop_signal = number
            if number == signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)

        return {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
