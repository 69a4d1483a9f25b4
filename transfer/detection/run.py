"""One detection run from a config: check, build, train, evaluate, record."""

import json
import logging
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetMapper
from detectron2.engine import hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
)
from omegaconf import DictConfig
from torch.nn.parallel import DistributedDataParallel

from pretrain.checkpoint import atomic_write
from pretrain.findings import refuse_errors
from transfer.datasets.coco_checks import CocoSplit, check_coco
from transfer.detection import checkpoint
from transfer.detection.build import Detector, build_detector, build_optimizer, plain
from transfer.detection.coco import Split, read_pair, register
from transfer.detection.config import ConfigError, protocol_of
from transfer.detection.evaluation import CocoEvaluator, predict
from transfer.detection.loader import test_loader, train_loader, trainable
from transfer.detection.optimizer import lr_factor
from transfer.detection.pictures import write_pictures
from transfer.detection.precision import precise_bn
from transfer.detection.trainer import (
    NotFiniteError,
    SaveState,
    Trainer,
    save_last_good,
    trim_metrics,
)
from transfer.detection.tta import with_tta
from transfer.record import (
    RECORD_NAME,
    Cost,
    Dataset,
    Result,
    describe_environment,
    protocol_hash,
    write_result,
)
from transfer.weights import PixelStats, transfer_arch_args

logger = logging.getLogger(__name__)

RUN_NAME = "run.json"  # what the folder's run is, for --resume to compare with


@dataclass(frozen=True)
class Run:
    """Everything a run needs, checked and built."""

    config: DictConfig
    out: Path
    device: torch.device
    train: Split
    val: Split
    detector: Detector

    @property
    def micro_batch(self) -> int:
        """Images a process sees at once; ConfigError where the batch cannot be divided so."""
        train, world = self.config.train, comm.get_world_size()
        size, rest = divmod(train.batch, train.accumulate * world)
        if rest or not size:
            raise ConfigError(
                f"train.batch={train.batch} cannot be split over {world} process(es) times "
                f"train.accumulate={train.accumulate}"
            )
        return size


def run(config: DictConfig, *, resume: bool = False) -> Result | None:
    """Train and evaluate; the record ends in `config.output_dir`. None on other processes than 0.

    Everything that can be refused is refused before the first step.
    """
    out = Path(config.output_dir)
    if (out / RECORD_NAME).is_file() and resume:
        logger.info("%s is finished already", out)
        return None
    refuse_occupied(out, resume)
    setup = prepare(config)
    identity = _identity(setup)
    _claim(out, identity, resume)
    _log_to(out)
    setup.detector.model.to(setup.device)
    trainer = train(setup, identity)
    _refresh_batchnorm(setup, trainer)
    with trainer.averaged():
        evaluator, speed = evaluate(setup, out)
        if comm.is_main_process():
            _save_final(setup, trainer)
    if not comm.is_main_process():
        return None
    logger.info("evaluated at %.1f images/s", speed)
    result = record(setup, evaluator, trainer)
    write_pictures(setup.val, out, setup.config.test.pictures)
    write_result(result, out)
    return result


def eval_only(config: DictConfig) -> dict[str, float]:
    """Evaluate the detector of `config.checkpoint` (default: the folder's own); no record.

    The predictions go to the output folder's `eval/`.
    """
    out = Path(config.output_dir)
    path = Path(config.checkpoint or out / checkpoint.FINAL_NAME)
    trained = checkpoint.load(path)
    config.weights = "none"
    pixels = None
    if "arch" in trained:  # saved by `run`
        config.arch, config.arch_args = trained["arch"], trained["arch_args"]
        pixels = PixelStats(**trained["pixels"])
    setup = prepare(config, pixels)
    checkpoint.load_model(setup.detector.model, trained["model"], path)
    setup.detector.model.to(setup.device)
    evaluator, _ = evaluate(setup, out / "eval")
    if evaluator.metrics is None:
        return {}
    text = json.dumps(evaluator.metrics.metrics, indent=1)
    atomic_write(out / "eval" / "metrics.json", lambda p: p.write_text(text))
    return evaluator.metrics.metrics


def refuse_occupied(out: Path, resume: bool) -> None:
    """ValueError for a folder that holds something, unless it is to be resumed."""
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"the output folder {out} is not empty: give another output_dir, or --resume"
        )


def prepare(config: DictConfig, pixels: PixelStats | None = None) -> Run:
    """Check the data, read it, and build the detector (for pixels as given, not the encoder's)."""
    data = config.data
    parts = [
        CocoSplit(name, Path(data[f"{name}_json"]), Path(data[f"{name}_images"]))
        for name in ("train", "val")
    ]
    refuse_errors(check_coco(parts), allow=tuple(config.allow))
    train_split, val_split = read_pair(data)
    masks = config.model.masks
    if masks and not (train_split.has_masks and val_split.has_masks):
        raise ConfigError(
            "some annotations have no segmentation: set model.masks=false to train on boxes only"
        )
    for split in (train_split, val_split):
        register(split)
    detector = build_detector(config, len(train_split.classes), pixels)
    name = config.train.device
    if name == "auto":
        name = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    made = Run(config, Path(config.output_dir), device, train_split, val_split, detector)
    made.micro_batch  # noqa: B018 - refuse a batch that cannot be divided
    return made


def mapper_of(setup: Run, *, training: bool) -> DatasetMapper:
    """Detectron2's mapper with the config's augmentations, in the encoder's colour order."""
    from detectron2.config import instantiate

    settings = setup.config.input
    return DatasetMapper(
        is_train=training,
        augmentations=list(instantiate(settings.train if training else settings.test)),
        image_format=setup.detector.image_format,
        use_instance_mask=setup.config.model.masks,
        instance_mask_format=setup.train.mask_format,
        recompute_boxes=settings.recompute_boxes and setup.config.model.masks,
    )


def train(setup: Run, identity: str) -> Trainer:
    """Train to the end of the schedule, from the folder's state where there is one."""
    config, out, settings = setup.config, setup.out, setup.config.train
    model: torch.nn.Module = setup.detector.model
    if settings.compile:
        setup.detector.features.compile()  # the heads' shapes change from image to image
    if comm.get_world_size() > 1:
        ids = [setup.device.index] if setup.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
    schedule = plain(config.schedule)
    trainer = Trainer(
        model,
        partial(_batches, setup),
        build_optimizer(config, setup.detector.model, setup.detector.features.arch),
        lambda step: lr_factor(step, **schedule),
        seed=config.seed,
        accumulate=settings.accumulate,
        amp=settings.amp,
        clip_norm=settings.clip_norm,
        ema=settings.ema,
    )
    saver = SaveState(out, settings.checkpoint_period, identity)
    state = out / checkpoint.STATE_NAME
    if state.is_file():
        trainer.load_state_dict(checkpoint.load(state))
        logger.info("continuing after step %d", trainer.done)
        trim_metrics(out / "metrics.json", trainer.done)
    trainer.register_hooks(
        [hooks.IterationTimer(warmup_iter=0), *_evaluation_hook(setup, trainer), saver]
    )
    if comm.is_main_process():
        trainer.register_hooks([hooks.PeriodicWriter(_writers(setup), settings.log_period)])
    signal.signal(signal.SIGTERM, lambda *_: setattr(trainer, "stop_asked", True))
    try:
        trainer.train(trainer.done, schedule["steps"])
    except NotFiniteError as error:
        kept = save_last_good(trainer, out, identity)
        last = f"step {trainer.done} is kept in {state}" if kept else f"see {state} for the last"
        raise NotFiniteError(f"{error}. The last good state, {last}") from None
    return trainer


def evaluate(setup: Run, out: Path) -> tuple[CocoEvaluator, float]:
    """Predict the validation images, save the predictions below `out`, evaluate them."""
    tasks = ("bbox", "segm") if setup.config.model.masks else ("bbox",)
    settings = setup.config.test
    evaluator = CocoEvaluator(
        setup.val, out, tasks=tasks, engine=settings.engine,
        max_detections=setup.config.model.max_detections,
    )  # fmt: skip
    loader = test_loader(
        setup.val.records, mapper_of(setup, training=False), batch=settings.batch,
        workers=setup.config.train.workers,
    )  # fmt: skip
    model: torch.nn.Module = setup.detector.model
    if settings.tta is not None:
        model = with_tta(setup.detector.model, **plain(settings.tta))
    speed = predict(model, loader, evaluator)
    evaluator.evaluate()
    return evaluator, speed


def record(setup: Run, evaluator: CocoEvaluator, trainer: Trainer) -> Result:
    """The run's result; what it cost counts all resumed parts."""
    config, detector, metrics = setup.config, setup.detector, evaluator.metrics
    assert metrics is not None  # evaluated on this process
    protocol = protocol_of(config)
    images = trainer.done * config.train.batch
    return Result(
        task="detection",
        method=_method(detector),
        backbone=detector.features.arch,
        backbone_args=_backbone_args(setup),
        weights=detector.report.to_json() if detector.report else None,
        dataset=Dataset(
            name=config.data.name,
            train_images=len(trainable(setup.train.records)),
            val_images=len(setup.val.records),
            classes=setup.val.classes,
        ),
        protocol=protocol,
        protocol_hash=protocol_hash(protocol),
        seed=config.seed,
        metrics=metrics.metrics,
        per_class=metrics.per_class,
        evaluator=metrics.evaluator,
        cost=Cost(
            hours=trainer.seconds / 3600,
            images_per_second=images / trainer.seconds if trainer.seconds else None,
            peak_memory_mib=_peak_memory_mib(setup.device),
        ),
        environment=describe_environment(setup.device),
        notes=list(detector.notes),
    )


def _batches(setup: Run, start_step: int) -> Any:
    settings = setup.config.train
    return train_loader(
        trainable(setup.train.records),
        mapper_of(setup, training=True),
        micro_batch=setup.micro_batch,
        accumulate=settings.accumulate,
        seed=setup.config.seed,
        start_step=start_step,
        workers=settings.workers,
    )


def _evaluation_hook(setup: Run, trainer: Trainer) -> list[hooks.EvalHook]:
    period = setup.config.train.eval_period
    if not period:
        return []

    def test() -> dict[str, float]:
        with trainer.averaged():
            evaluator, _ = evaluate(setup, setup.out / "eval")
        return evaluator.metrics.metrics if evaluator.metrics else {}

    class Every(hooks.EvalHook):
        """Detectron2's hook without its evaluation after training: `run` does that one."""

        def after_train(self) -> None:
            return

    return [Every(period, test)]


def _writers(setup: Run) -> list[Any]:
    return [
        CommonMetricPrinter(setup.config.schedule.steps),
        JSONWriter(str(setup.out / "metrics.json")),
        TensorboardXWriter(str(setup.out)),
    ]


def _refresh_batchnorm(setup: Run, trainer: Trainer) -> None:
    """PreciseBN on the batches that would come next."""
    count = setup.config.test.precise_bn
    if count:
        torch.manual_seed(setup.config.seed)
        with EventStorage():
            precise_bn(trainer.bare, _batches(setup, trainer.done), count)


def _save_final(setup: Run, trainer: Trainer) -> None:
    """The trained detector with what is needed to build it again without the encoder file."""
    features = setup.detector.features
    final = {
        "model": trainer.bare.state_dict(),
        "arch": features.arch,
        "arch_args": features.arch_args,
        "pixels": asdict(setup.detector.pixels),
    }
    checkpoint.save(final, setup.out / checkpoint.FINAL_NAME)


def _identity(setup: Run) -> str:
    """What the run is, as JSON: a resumed run must have the same."""
    report = setup.detector.report
    return json.dumps(
        {
            "protocol": protocol_of(setup.config),
            "weights": report.sha256 if report else "none",
            "arch": setup.detector.features.arch,
            "arch_args": _backbone_args(setup),
            "seed": setup.config.seed,
            "accumulate": setup.config.train.accumulate,
            "data": {k: v for k, v in plain(setup.config.data).items() if k != "root"},
            "classes": setup.train.classes,
            "training_images": len(setup.train.records),
        },
        indent=1,
        sort_keys=True,
    )


def _claim(out: Path, identity: str, resume: bool) -> None:
    """Note in the folder which run it holds; ConfigError when it holds another one."""
    path = out / RUN_NAME
    if resume and path.is_file():
        differing = _differences(json.loads(path.read_text()), json.loads(identity))
        if differing:
            raise ConfigError(
                f"{out} holds another run; what differs (there -> now): {'; '.join(differing)}. "
                "Give another output_dir"
            )
    if comm.is_main_process():
        atomic_write(path, lambda p: p.write_text(identity + "\n"))
    comm.synchronize()


def _log_to(out: Path) -> None:
    """Write what is logged to out/log.txt as well (first process)."""
    if not comm.is_main_process():
        return
    handler = logging.FileHandler(out / "log.txt")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s"))
    for name in ("detectron2", "transfer"):
        logging.getLogger(name).addHandler(handler)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [
            line
            for n in names
            for line in _differences(old.get(n), new.get(n), f"{key}.{n}" if key else n)
        ]
    return [] if old == new else [f"{key}: {old!r} -> {new!r}"]


def _method(detector: Detector) -> str:
    return detector.report.identity["method"] if detector.report else "scratch"


def _backbone_args(setup: Run) -> dict[str, Any]:
    features = setup.detector.features
    return transfer_arch_args(features.arch, features.arch_args)


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
