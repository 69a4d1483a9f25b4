"""Where and with what a run was made: command, commit, versions, device, peak memory."""

import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "detectron2",
    "onedl-mmsegmentation",
    "onedl-mmengine",
    "faster-coco-eval",
    "pycocotools",
)


ROOT = Path(__file__).resolve().parents[2]


def command_line(processes: int, words: Sequence[str] | None = None) -> str | None:
    """Return the command that begins this process's run again, from the repository's root.

    `words` are those that Python was started with (default: this process's). None where they are
    not a tool's, as in tests.
    """
    tool, *given = sys.argv if words is None else words
    path = Path(tool).resolve()
    if path.parent != ROOT / "tools":
        return None
    started = ["python"]
    if processes > 1 and "--num-gpus" not in given:
        started = ["torchrun", "--nproc-per-node", str(processes)]
    inside = [word.replace(f"{ROOT}/", "") for word in given if word != "--resume"]
    return shlex.join([*started, path.relative_to(ROOT).as_posix(), *inside])


def git_state() -> tuple[str, bool | None]:
    """Return the commit of the checkout this code runs from, and whether files differ from it.

    Untracked files count unless they are ignored. ("unknown", None) outside of a checkout.
    """
    git = ["git", "-C", str(ROOT)]
    try:
        commit, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown", None
    return commit.strip(), bool(changes.strip())


def versions() -> dict[str, str]:
    """Return the versions of Python, this suite, and the packages a number may depend on."""
    names = ("mim-transfer", *PACKAGES)
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def version(package: str) -> str:
    """Return the installed version of a package, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def device_name(device: torch.device | str) -> str:
    """Return the GPU's name, or the kind of any other device."""
    kind = torch.device(device).type
    return torch.cuda.get_device_name(device) if kind == "cuda" else kind


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory in MiB: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def suite_commit() -> str:
    """Return the commit of this code's checkout, with "+changes" if files differ from it."""
    commit, dirty = git_state()
    return commit + ("+changes" if dirty else "")
