"""Weights files, training states and run folders that are broken, hostile or another run's."""

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tests.campaign.case import RAN, Case, Place
from tests.campaign.world import DETECTION, PRETRAIN, SEGMENTATION


class Touch:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.folder / RAN}",)


def encoder(change: Callable[[dict[str, Any], dict[str, str]], object]) -> Callable[[Place], None]:
    """Prepare a copy of the sound encoder file with its tensors and header changed."""

    def prepare(place: Place) -> None:
        source = place.world / "pretraining/encoder.safetensors"
        with safe_open(str(source), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = dict(file.metadata())
        change(tensors, header)
        save_file(tensors, str(place.own / "bad.safetensors"), metadata=header)

    return prepare


def header(key: str, value: Any) -> Callable[[Place], None]:
    """Prepare an encoder file with another value in its header."""
    return encoder(lambda _, head: head.update({key: json.dumps(value)}))


def tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Place], None]:
    """Prepare an encoder file whose largest tensor is changed."""

    def apply(tensors: dict[str, Any], _: dict[str, str]) -> None:
        name = max(tensors, key=lambda n: tensors[n].numel())
        tensors[name] = change(tensors[name]).contiguous()

    return encoder(apply)


def written(content: bytes | Callable[[Path], object], name: str = "bad.safetensors") -> Any:
    """Prepare a file of these bytes, or written by a function of its path."""

    def prepare(place: Place) -> None:
        path = place.own / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)

    return prepare


def one_less(tensors: dict[str, Any], _: dict[str, str]) -> None:
    tensors.pop(sorted(tensors)[0])


def one_more(tensors: dict[str, Any], _: dict[str, str]) -> None:
    tensors["surprise.weight"] = torch.zeros(3)


LYING = struct.pack("<Q", 2**40) + b"{}"
WEIGHTS: dict[str, tuple[Any, str]] = {
    "empty": (written(b""), "bad.safetensors"),
    "text": (written(b"not weights"), "bad.safetensors"),
    "lying-header": (written(LYING), "bad.safetensors"),
    "length-of-header": (written(struct.pack("<Q", 4) + b"abcd"), "bad.safetensors"),
    "a-folder": (written(lambda path: path.mkdir()), "bad.safetensors"),
    "fifo": (written(lambda path: os.mkfifo(path)), "bad.safetensors"),
    "dangling": (written(lambda path: path.symlink_to("nowhere")), "bad.safetensors"),
    "nan": (tensor(lambda t: t * float("nan")), "(?i)nan|finite"),
    "inf": (tensor(lambda t: t + float("inf")), "(?i)inf|finite"),
    "shape": (tensor(lambda t: t.flatten()[:-1]), "shape|size"),
    "integers": (tensor(lambda t: t.to(torch.int32)), "int32|type"),
    "complex": (tensor(lambda t: t.to(torch.complex64)), "complex|type"),
    "one-tensor-less": (encoder(one_less), "lack|miss"),
    "one-tensor-more": (encoder(one_more), "surprise.weight"),
    "no-header": (encoder(lambda _, head: head.clear()), "bad.safetensors"),
    "arch-number": (header("arch", 5), "arch"),
    "arch-unknown": (header("arch", "resnet5"), "resnet5"),
    "arch-args-list": (header("arch_args", [1]), "arch_args"),
    "method-null": (header("method", None), "method"),
    "method-markup": (header("method", "<script>alert(1)</script>"), "method"),
    "input-size-negative": (header("input_size", -5), "input_size"),
    "pixel-mean-bytes": (header("pixel_mean", [124, 117, 104]), "pixel_mean"),
    "pixel-std-zero": (header("pixel_std", [0, 0, 0]), "pixel_std"),
    "color-order": (header("color_order", "GBR"), "color_order"),
    "steps-text": (header("steps", "many"), "steps"),
    "stages-wrong": (header("stages", [{"method": 3}]), "stage|method"),
    "header-not-json": (
        encoder(lambda _, head: head.update(arch_args="{")),
        "header is wrong",
    ),
}
PICKLES: dict[str, tuple[Any, str]] = {
    "torch-call": (
        written(lambda path: torch.save({"model": Touch(path.parent)}, path), "bad.pth"),
        "bad.pth",
    ),
    "pickle-call": (
        written(lambda path: path.write_bytes(pickle.dumps(Touch(path.parent))), "bad.pth"),
        "bad.pth",
    ),
    "pkl-call": (
        written(
            lambda path: path.write_bytes(pickle.dumps({"model": Touch(path.parent)})), "bad.pkl"
        ),
        "bad.pkl",
    ),
    "no-tensors": (written(lambda path: torch.save({"a": 1}, path), "bad.pth"), "bad.pth"),
    "cut-zip": (
        written(
            lambda path: (
                torch.save({"a": torch.zeros(500)}, path),
                path.write_bytes(path.read_bytes()[:-300]),
            ),
            "bad.pth",
        ),
        "bad.pth",
    ),
}


# tools/inspect_weights.py shows what such a file is; loading it is refused
SHOWN = ("nan", "inf", "shape", "integers", "complex", "no-header")
SHOWN += ("one-tensor-less", "one-tensor-more")


def run_of(kind: str, spoil: Callable[[Path], object]) -> Callable[[Place], None]:
    """Prepare a copy of a finished run whose product is gone, so that it resumes, spoilt."""

    def prepare(place: Place) -> None:
        out = place.copy(kind, "out")
        for name in ("encoder.safetensors", "result.json"):
            (out / name).unlink(missing_ok=True)
        spoil(out)

    return prepare


def flipped(path: Path) -> None:
    """Flip a byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def hostile_state(path: Path) -> None:
    torch.save({"values": Touch(path.parent)}, path)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "state-flipped": (lambda out: flipped(out / "state.pt"), "state.pt"),
    "state-cut": (
        lambda out: (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:1000]),
        "state.pt",
    ),
    "state-empty": (lambda out: (out / "state.pt").write_bytes(b""), "state.pt"),
    "state-text": (lambda out: (out / "state.pt").write_text("hello"), "state.pt"),
    "state-hostile": (lambda out: hostile_state(out / "state.pt"), "state.pt"),
    "state-of-others": (
        lambda out: torch.save({"format": 1, "kind": "cake", "values": {}}, out / "state.pt"),
        "state.pt",
    ),
    "run-cut": (
        lambda out: (out / "run.json").write_text((out / "run.json").read_text()[:50]),
        "run.json",
    ),
    "run-empty": (lambda out: (out / "run.json").write_text("{}"), "run.json|other settings"),
    "run-list": (lambda out: (out / "run.json").write_text("[]"), "run.json"),
    "run-binary": (lambda out: (out / "run.json").write_bytes(b"\xff\xfe\x00"), "run.json"),
    "run-missing": (lambda out: (out / "run.json").unlink(), "run.json"),
}
RUNS = {
    "pretraining": ("pretrain", PRETRAIN + " --resume", "--seed 5"),
    "detection": ("train_net", DETECTION + " --resume", "seed=5"),
    "segmentation": (
        "train_seg",
        SEGMENTATION.replace("--work-dir", "--resume --work-dir") + " save_predictions=True",
        "seed=5",
    ),
}


def replaced(out: Path) -> None:
    """Put other images under the same names beside a run."""
    (out.parent / "data").mkdir()
    for i in range(8):
        Image.effect_noise((80, 72), 50 + i).convert("RGB").save(out.parent / f"data/{i}.jpg")


def _other_images(tool: str, words: str) -> Iterator[Case]:
    """Yield a pretraining whose images, precision or list of images is another when it goes on."""
    own = words.replace("{w}/images", "{o}/data")
    expect = r"0\.jpg is another image than when the run began"
    yield Case(
        "resume-pretraining-other-images", tool, own, expect, run_of("pretraining", replaced)
    )
    cut = run_of("pretraining", lambda out: (out / "data.json").write_text("{"))
    yield Case("resume-pretraining-data-cut", tool, words, r"data\.json cannot be read", cut)
    empty = run_of("pretraining", lambda out: (out / "data.json").write_text("{}"))
    yield Case("resume-pretraining-data-empty", tool, words, r"data\.json does not say", empty)
    sound = run_of("pretraining", lambda _: None)
    expect = "precision: 'fp32' -> 'bf16'"
    yield Case(
        "resume-pretraining-other-precision", tool, f"{words} --precision bf16", expect, sound
    )


def cases() -> Iterator[Case]:
    """Yield a case for each bad file at each door."""
    for name, (prepare, expect) in {**WEIGHTS, **PICKLES}.items():
        file = "bad" + next((s for s in (".pth", ".pkl") if s in expect), ".safetensors")
        place = f"{{o}}/{file}"
        seg = SEGMENTATION.replace("arch=convnextv2_atto", f"weights={place}")
        seg = (
            " ".join(word for word in seg.split("'arch_args=")[0].split())
            + " "
            + " ".join(seg.split("}' ", 1)[1:])
        )
        yield Case(f"weights-segmentation-{name}", "train_seg", seg, expect, prepare)
        yield Case(
            f"weights-detection-{name}",
            "train_net",
            f"{DETECTION} weights={place}",
            expect,
            prepare,
        )
        if name not in SHOWN:
            yield Case(f"weights-inspect-{name}", "inspect_weights", place, expect, prepare)
    for kind, (tool, words, other) in RUNS.items():
        for name, (spoil, expect) in SPOILT.items():
            yield Case(f"resume-{kind}-{name}", tool, words, expect, run_of(kind, spoil))
        yield Case(
            f"resume-{kind}-other-settings",
            tool,
            f"{words} {other}",
            "seed: 0 -> 5",
            run_of(kind, lambda _: None),
        )
        if kind == "pretraining":
            yield from _other_images(tool, words)
        fresh = words.replace("--resume ", "").replace(" --resume", "")
        yield Case(
            f"occupied-{kind}", tool, fresh, "not empty.*--resume", run_of(kind, lambda _: None)
        )
    for kind in ("detection", "segmentation"):
        tool, words, _ = RUNS[kind]
        words = words.replace("--resume", "--eval-only")
        yield Case(f"eval-only-{kind}-nothing-there", tool, words, "out|state|checkpoint")
        for name in ("state-flipped", "state-hostile"):
            spoil, expect = SPOILT[name]

            def both(out: Path, spoil: Callable[[Path], object] = spoil) -> None:
                (out / "model_final.pth").unlink(missing_ok=True)
                spoil(out)

            yield Case(f"eval-only-{kind}-{name}", tool, words, expect, run_of(kind, both))
