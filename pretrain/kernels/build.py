"""Compile the C sources beside this file into a shared library, once a compiler and machine."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

SOURCES = Path(__file__).parent
FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"]
logger = logging.getLogger(__name__)


@torch.compiler.assume_constant_result
def available() -> bool:
    """Return whether the kernels can be used; the first call compiles them, about two seconds."""
    return library() is not None


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None, with the reason logged."""
    if os.environ.get("MIM_TRANSFER_KERNELS", "1") == "0":
        return None
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        logger.info("no C compiler found: convolutions run in plain PyTorch")
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        logger.info("the C kernels do not compile here, plain PyTorch is used: %s", reason)
        return None


def _compiled(compiler: str) -> Path:
    """Return the library in the cache folder, compiled first where it is missing."""
    target = _cache() / f"convolutions-{_fingerprint(compiler)}.so"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        command = [compiler, *FLAGS, "-fopenmp", "-o", str(fresh), str(SOURCES / "convolutions.c")]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        except subprocess.CalledProcessError:  # a compiler without OpenMP: one thread
            command.remove("-fopenmp")
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        fresh.replace(target)  # atomic: several processes may compile at once
    return target


def _fingerprint(compiler: str) -> str:
    """Return a hash of sources, flags, compiler and processor, which -march=native is for."""
    parts = [file.read_text() for file in sorted(SOURCES.glob("*.[ch]"))]
    parts += [*FLAGS, compiler, platform.machine(), _processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mim-transfer" / "kernels"
