"""What a detection run's number depends on: the protocols of its training and its evaluation."""

import json
from functools import lru_cache
from typing import Any

from detectron2.config import LazyConfig
from detectron2.utils import comm
from omegaconf import DictConfig

from pretrain.run.batch_norm import images_per_statistic
from transfer.detection.config import ConfigError, protocol_of, resolve
from transfer.detection.data import Records
from transfer.detection.prepare import Run
from transfer.results.protocol import Protocols, differing, image_list, origin, without

# settings of the model that only its predictions depend on
MEASURED = ("soft_nms", "max_detections", "score_threshold", "nms_threshold")
TOPK = ("pre_nms_topk", "post_nms_topk")  # [in training, in tests]
NOT_TRAINING = ("test.tta", "test.engine", "input.test", "config_file", "budget")


def protocols_of(
    config: DictConfig, train: dict[str, Any], val: dict[str, Any], norm_images: int | None = None
) -> Protocols:
    """Return the protocols of a resolved config on two image lists.

    `norm_images` is the number of images that a BatchNorm's statistics are taken from.
    """
    settings = json.loads(json.dumps(protocol_of(config)))
    model = settings["model"]
    evaluation = {key: model[key] for key in MEASURED}
    evaluation |= {f"test_{key}": model[key][1] for key in TOPK}
    evaluation |= {"tta": settings["test"]["tta"], "input": settings["input"]["test"]}
    training = without(settings, [*NOT_TRAINING, *(f"model.{key}" for key in MEASURED)])
    training["model"] |= {key: model[key][0] for key in TOPK}
    training |= {"data": train, "images_per_batch_norm": norm_images}
    return Protocols(training, {**evaluation, "data": val})


def protocols(setup: Run) -> Protocols:
    """Return the protocols of a prepared run."""
    return protocols_of(setup.config, *_images(setup), _norm_images(setup))


def origin_of(setup: Run) -> dict[str, Any] | None:
    """Return the shipped config that the run was made from, and what it changed."""
    path = setup.config.config_file
    if path is None:
        return None
    shipped = LazyConfig.load(path, "config")
    share = shipped.data.train_share
    shipped.data = {**setup.config.data, "train_share": share}
    alone = protocols_of(resolve(shipped, training=False), *_images(setup), _norm_images(setup))
    return origin(path, alone, protocols(setup), "detection")


def require_same_network(setup: Run, trained: dict[str, Any]) -> None:
    """Raise ConfigError if the config's network is another than the one that was trained."""
    now = protocols(setup).train
    changed = {
        f"{part}.{name}": values
        for part in ("model", "features")
        for name, values in differing(trained[part], now[part]).items()
        if name != "drop_path_rate"
    }
    if changed:
        told = "; ".join(f"{k}: trained with {a!r}, now {b!r}" for k, (a, b) in changed.items())
        raise ConfigError(f"the detector was trained as another network ({told}): set these back")


def _images(setup: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the lists of training and validation images; none to train on in an evaluation."""
    val = image_list_of(setup.val.records, tuple(setup.val.classes))
    if setup.train_split is None:
        return {}, val
    train = setup.train_split
    return image_list_of(train.records, tuple(train.classes), trained=True), val


@lru_cache(maxsize=2)
def image_list_of(
    records: Records, classes: tuple[str, ...], *, trained: bool = False
) -> dict[str, Any]:
    """Return count and digest of a split's images with their boxes, categories and crowds.

    `trained`: of the images alone that Detectron2 trains on.
    """
    root = str(records.image_root)
    names = (_labelled(record, root) for record in (records.trainable() if trained else records))
    return image_list(names, classes)


def _labelled(record: dict[str, Any], root: str) -> str:
    name = record["file_name"].removeprefix(root).lstrip("/")
    boxes = [[*a["bbox"], a["category_id"], a["iscrowd"]] for a in record["annotations"]]
    return f"{name} {record['height']} {record['width']} {json.dumps(boxes)}"


def _norm_images(setup: Run) -> int | None:
    if setup.train_split is None:
        return None
    return images_per_statistic(setup.detector.model, setup.micro_batch, comm.get_world_size())
