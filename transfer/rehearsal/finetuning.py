"""A classification config the whole way: the plan, and what is the family's own."""

from pathlib import Path
from typing import Any

from pretrain.run.folder import ENCODER, RECORD, STATE
from transfer.rehearsal import data, reduce
from transfer.rehearsal.reduce import KEYS, Family, Plan, Request
from transfer.rehearsal.ways import Way, check_record, require

IMAGES = {"train": 24, "val": 6}


def plan_of(config: Any, request: Request) -> Plan:
    """Return the plan of a classification config.

    SparK's rule of layer decay knows the published depths alone; a small net gets detection's.
    """
    keys, full, schedule = KEYS["classification"], request.full_size, config.schedule
    per_epoch = request.images / config.batch_size
    steps = schedule.steps or round(schedule.epochs * per_epoch)
    warmup = schedule.warmup_steps
    warmup = round(schedule.warmup_epochs * per_epoch) if warmup is None else warmup
    batch = config.batch_size if full else 4 * request.processes
    options = reduce.common("classification", request, warmup, batch)
    arch = config.arch or reduce.DEFAULT_ARCH
    arch_args = reduce.small_net(arch, config.arch_args, full)
    options |= {"arch": arch, keys["arch_args"]: arch_args}
    notes: tuple[str, ...] = ()
    if not full:
        options |= {keys["device_batch"]: 2, "input_size": reduce.IMAGE_PX[reduce.kind_of(arch)]}
        if config.optimizer.layer_decay_rule == "resnet_classification":
            options["layer_decay_rule"], notes = "resnet", ("layer_decay_rule=resnet",)
    own = str(config.precision)
    options, more = reduce.precision_of("classification", options, own, request)
    return Plan(options, batch, steps, arch, arch_args, (*notes, *more))


class Classification(Way):
    """Weights and class folders -> record and encoder file."""

    family: Family = "classification"
    product_name, state_name = RECORD, STATE

    def prepare(self) -> None:
        """Make the class folders, the smaller config and the weights."""
        from transfer.classification.config import load_config
        from transfer.classification.run import product_of

        config = load_config(self.config)
        self.product = self.out / product_of(config)
        self.plan = plan_of(config, self.request)
        self.form = "class folders"
        images = {**IMAGES, "train": max(IMAGES["train"], self.plan.batch)}
        self.images = data.make_classes(self.data, images)
        self.weights = self.encoder()

    def options(self) -> list[str]:
        """Return the settings that differ from the config's."""
        return [*self.plan.words(), f"weights={self.weights}"]

    def arguments(self, *, resume: bool) -> list[str]:
        """Return the command line."""
        places = ["--data", str(self.images), "--out", str(self.out)]
        head = ["tools/finetune.py", str(self.config), *places, *(["--resume"] if resume else [])]
        return [*head, *self.options()]

    def call(self, *, resume: bool) -> None:
        """Run in this process."""
        from transfer.classification.config import load_config
        from transfer.classification.run import run

        config = load_config(self.config, self.options())
        run(config, self.images, self.out, file=Path(self.config), resume=resume)

    def check(self) -> None:
        """Raise an error if the record is not valid, or the encoder file lacks its last stage."""
        from pretrain.files.encoder_file import read_encoder

        tensors, identity = read_encoder(self.out / ENCODER)
        require(bool(tensors), f"{self.out / ENCODER} holds no tensor")
        require(identity.stages[-1].labels is True, "the last stage does not name its labels")
        if self.product.name == RECORD:
            check_record(self.product)
