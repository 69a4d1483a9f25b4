"""Records that are edited, hostile or not records, and what the tools that read them say."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.campaign.case import Case, Place
from tests.campaign.world import edit_json


def record(change: Callable[[Any], object]) -> Callable[[Place], None]:
    """Prepare a copy of the sound detection run with its record changed."""
    return lambda place: edit_json(place.copy("detection", "run") / "result.json", change)


def field(name: str, value: Any) -> Callable[[Place], None]:
    """Prepare a record in which one field has another value."""
    return record(lambda content: content.update({name: value}))


def raw(content: bytes) -> Callable[[Place], None]:
    """Prepare a run whose record has this content."""

    def prepare(place: Place) -> None:
        (place.copy("detection", "run") / "result.json").write_bytes(content)

    return prepare


def with_run(kind: str, content: str) -> Callable[[Place], None]:
    """Prepare a finished run whose run.json has this content."""
    return lambda place: (place.copy(kind, "run") / "run.json").write_text(content) and None


def nested(name: str, key: str, value: Any) -> Callable[[Place], None]:
    """Prepare a record with another value below a field."""
    return record(lambda content: content[name].update({key: value}))


def config(text: str) -> Callable[[Place], None]:
    """Prepare a Python file, of a suite or a recipe."""
    return lambda place: (place.own / "bad.py").write_text(text) and None


RECORDS: dict[str, tuple[Callable[[Place], None], str]] = {
    "not-json": (raw(b"{"), "result.json"),
    "empty": (raw(b""), "result.json|no records"),
    "binary": (raw(b"\xff\xfe\x00"), "result.json"),
    "list": (raw(b"[]"), "result.json"),
    "deep": (raw(b"[" * 100000), "result.json"),
    "nan": (nested("metrics", "AP_box", float("nan")), "result.json"),
    "metric-text": (nested("metrics", "AP_box", "12"), "AP_box"),
    "metric-true": (nested("metrics", "AP_box", True), "AP_box"),
    "metric-above-100": (nested("metrics", "AP_box", 101.0), "AP_box"),
    "metrics-none": (field("metrics", {}), "metric"),
    "seed-negative": (field("seed", -1), "seed"),
    "task-unknown": (field("task", "captioning"), "task|captioning"),
    "method-forged": (field("method", "spark"), "method|stages"),
    "method-markup": (field("method", "<script>"), "method|stages"),
    "weights-null": (field("weights", {"sha256": "x"}), "weights"),
    "train-edited": (nested("train", "schedule", {"steps": 9}), "train_hash|edited"),
    "eval-edited": (nested("eval", "engine", "none"), "eval_hash|edited"),
    "surprise": (field("surprise", 1), "surprise"),
    "version": (field("schema_version", 99), "schema_version|version"),
    "images-negative": (nested("dataset", "train_images", -1), "train_images"),
}

ADE = (
    "ade20k --train-images {w}/scenes/images/train --train-labels {w}/scenes/labels/train "
    "--val-images {w}/scenes/images/val --val-labels {w}/scenes/labels/val --image-suffix .png"
)
# tool and words -> the error
WORDS: dict[str, tuple[str, str, str]] = {
    "table-nothing": ("make_table", "{o}/none --out {o}/t", "none"),
    "table-empty-path": ("make_table", "'' --out {o}/t", "(?i)empty|path|no such"),
    "table-no-records": ("make_table", "{w}/images --out {o}/t", "no result.json"),
    "table-out-is-a-file": ("make_table", "{w}/detection --out {w}/images/0.jpg", "0.jpg"),
    "check-records-nothing": ("check_records", "{o}/none", "none"),
    "evaluate-nothing": ("evaluate", "{o}/none", "none"),
    "evaluate-image": ("evaluate", "{w}/images/0.jpg --annotations {w}/images/0.jpg", "0.jpg"),
    "evaluate-engine": ("evaluate", "{w}/detection --engine coco", "(?i)engine"),
    "evaluate-max-detections": ("evaluate", "{w}/detection --max-detections 0", "max.detections"),
    "evaluate-json-folder": ("evaluate", "{w}/detection --json {o}/none/x.json", "none"),
    "show-nothing": ("show_predictions", "{o}/none", "none"),
    "show-unknown-image": ("show_predictions", "{w}/detection --images 99 --out {o}/p.png", "99"),
    "show-count": ("show_predictions", "{w}/detection --count 0 --out {o}/p.png", "count"),
    "reconstructions-nothing": ("show_reconstructions", "{o}/none --data {w}/images", "none"),
    "reconstructions-no-data": ("show_reconstructions", "{w}/pretraining --to {o}/p.png", "--data"),
    "inspect-nothing": ("inspect_weights", "{o}/none", "none"),
    "inspect-image": ("inspect_weights", "{w}/images/0.jpg", "0.jpg"),
    "convert-nothing": ("convert_weights", "{o}/none --out {o}/x.safetensors", "none"),
    "convert-exists": (
        "convert_weights",
        "{w}/pretraining/encoder.safetensors --out {w}/images/0.jpg",
        "0.jpg",
    ),
    "convert-suffix": (
        "convert_weights",
        "{w}/pretraining/encoder.safetensors --out {o}/x.txt",
        "x.txt|suffix",
    ),
    "convert-target": (
        "convert_weights",
        "{w}/pretraining/encoder.safetensors --out {o}/x.safetensors --to caffe",
        "(?i)caffe|--to",
    ),
    "convert-other-arch": (
        "convert_weights",
        "{w}/pretraining/encoder.safetensors --out {o}/x.safetensors --arch resnet50",
        "arch",
    ),
    "dalle-nothing": ("convert_dalle", "{o}/none --out {o}/x.safetensors", "none"),
    "dalle-image": ("convert_dalle", "{w}/images/0.jpg --out {o}/x.safetensors", "0.jpg"),
    "check-data-coco-nothing": ("check_data", "coco {o}/none", "none|not"),
    "check-data-ade-nothing": ("check_data", "ade20k {o}/none", "none|not"),
    "check-data-images-empty-path": ("check_data", "images ''", "empty"),
    "check-data-classes": ("check_data", f"{ADE} --classes -5", "classes"),
    "tokenizer-empty-path": ("train_tokenizer", "--data '' --out {o}/x.safetensors", "empty"),
    "show-empty-path": ("show_predictions", "''", "empty"),
    "golden-file": ("check_golden", "{w}/images/0.jpg", "folders of golden cases"),
    "golden-nothing": ("check_golden", "{o}/none", "none"),
    "suite-nothing": ("run_suite", "{o}/none.py --out {o}/s", "none.py"),
    "suite-image": ("run_suite", "{w}/images/0.jpg --out {o}/s", "0.jpg"),
    "suite-jobs": ("run_suite", "{r}/configs/suites/demo.py --out {o}/s --jobs 0", "jobs"),
    "rehearse-nothing": ("rehearse", "{o}/none.py", "none.py"),
    "rehearse-steps": ("rehearse", "{r}/configs/pretrain/spark_resnet50.py --steps 1", "steps"),
    "shapes-nothing": ("make_shapes", "", "--out"),
    "shapes-occupied": ("make_shapes", "--out {w}/images", "images"),
    "shapes-negative": ("make_shapes", "--out {o}/s --train -3", "(?i)train|at least"),
    "shapes-small": ("make_shapes", "--out {o}/s --image-size 8", "(?i)image.size|64"),
}
FILES = {
    "suite-syntax": ("run_suite", "{o}/bad.py --out {o}/s", "bad.py", "suite = Suite("),
    "suite-no-suite": ("run_suite", "{o}/bad.py --out {o}/s", "bad.py", "x = 1\n"),
    "suite-error": ("run_suite", "{o}/bad.py --out {o}/s", "bad.py", "x = y\n"),
    "recipe-syntax": (
        "pretrain",
        "{o}/bad.py --data {w}/images --out {o}/p",
        "bad.py",
        "recipe = Recipe(",
    ),
    "recipe-none": ("pretrain", "{o}/bad.py --data {w}/images --out {o}/p", "bad.py", "x = 1\n"),
    "recipe-field": (
        "pretrain",
        "{o}/bad.py --data {w}/images --out {o}/p",
        "batchsize",
        "from pretrain.config import Recipe, SparkSettings\n"
        "recipe = Recipe(arch='resnet18', method=SparkSettings(), batchsize=3)\n",
    ),
    "detection-syntax": (
        "train_net",
        "--config-file {o}/bad.py output_dir={o}/p",
        "bad.py",
        "config = dict(",
    ),
    "detection-none": (
        "train_net",
        "--config-file {o}/bad.py output_dir={o}/p",
        "bad.py",
        "x = 1\n",
    ),
    "detection-error": (
        "train_net",
        "--config-file {o}/bad.py output_dir={o}/p",
        "bad.py",
        "config = y\n",
    ),
    "segmentation-syntax": ("train_seg", "{o}/bad.py --work-dir {o}/p", "bad.py", "model = dict("),
    "segmentation-error": ("train_seg", "{o}/bad.py --work-dir {o}/p", "bad.py", "model = y\n"),
    "segmentation-empty": ("train_seg", "{o}/bad.py --work-dir {o}/p", "bad.py|data_root", "x = 1"),
}
YAML = "config: !!python/object/apply:os.system ['touch {folder}/ran']\n"


def yaml(place: Place) -> None:
    """Prepare a YAML file that runs a command where an unsafe loader reads it."""
    (place.own / "bad.yaml").write_text(YAML.format(folder=place.own))


def cases() -> Iterator[Case]:
    """Yield a case for each."""
    for name, (prepare, expect) in RECORDS.items():
        yield Case(f"record-table-{name}", "make_table", "{o}/run --out {o}/t", expect, prepare)
        yield Case(f"record-check-{name}", "check_records", "{o}/run", expect, prepare, (1, 2))
    for name, (tool, words, expect) in WORDS.items():
        statuses = (1, 2) if tool == "check_data" else (2,)
        yield Case(f"tool-{name}", tool, words, expect, statuses=statuses)
    for name, (tool, words, expect, text) in FILES.items():
        yield Case(f"file-{name}", tool, words, expect, config(text), may_write=("__pycache__",))
    for kind, tool in (("detection", "evaluate"), ("pretraining", "show_reconstructions")):
        for name, content in {"cut": "{", "empty": "{}"}.items():
            words = "{o}/run" + " --data {w}/images" * (kind == "pretraining")
            yield Case(f"run-{name}-{tool}", tool, words, "run", with_run(kind, content))
    for tool, words in (
        ("train_net", "--config-file {o}/bad.yaml output_dir={o}/p"),
        ("train_seg", "{o}/bad.yaml --work-dir {o}/p"),
        ("pretrain", "{o}/bad.yaml --data {w}/images --out {o}/p"),
        ("run_suite", "{o}/bad.yaml --out {o}/s"),
    ):
        yield Case(f"yaml-{tool}", tool, words, "bad.yaml", yaml)
