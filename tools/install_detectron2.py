"""Install Detectron2 where it does not import yet.

    python tools/install_detectron2.py                      # pure-Python 0.6, hash-checked
    python tools/install_detectron2.py --upstream REVISION  # built from its own repository

Detectron2 is not on PyPI under its own name. `pb1-detectron2` 0.6 there holds the Python files of
the v0.6 tag without the C++ sources, so its own setup cannot build; its Python files are copied
into site-packages. What the compiled operators did is then missing (deformable convolution,
rotated boxes, Detectron2's fast COCO evaluation); Mask R-CNN needs none of them.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import tyro

NAME, VERSION = "pb1-detectron2", "0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
REPOSITORY = "https://github.com/facebookresearch/detectron2"
ROOT = Path(__file__).resolve().parent.parent
PROBE = "import transfer.detection; import detectron2.modeling"
METADATA = f"""Metadata-Version: 2.1
Name: detectron2
Version: {VERSION}
Summary: Detectron2 without its compiled operators, from {NAME} {VERSION}
Home-page: {REPOSITORY}
License: Apache-2.0
"""


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    upstream: Annotated[str | None, tyro.conf.arg(metavar="REVISION")] = None
    """Build this revision of Detectron2's own repository."""


class InstallError(Exception):
    """A refusal or failure that a sentence explains."""


def imports() -> bool:
    """Return whether a new interpreter can import Detectron2 (with the shims)."""
    probe = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True)
    return probe.returncode == 0


def pip(*arguments: str) -> None:
    """Run this interpreter's pip, so that its index and proxy settings hold."""
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = (done.stdout + done.stderr).strip()[-1500:]
        raise InstallError(f"{' '.join(command)} failed:\n{tail}")


def download(folder: Path) -> Path:
    """Download the source archive with pip, which checks the hash before it opens the file."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{SHA256}\n")
    options = ["--no-deps", "--no-binary=:all:", "--no-build-isolation", "--require-hashes"]
    pip("download", "-q", *options, "--dest", str(folder), "-r", str(wanted))
    return folder / f"{NAME}-{VERSION}.tar.gz"


def verify(archive: Path, sha256: str = SHA256) -> None:
    """Refuse an archive whose hash is not `sha256`."""
    if not archive.is_file():
        raise InstallError(f"no archive at {archive}")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise InstallError(
            f"{archive} has sha256 {found}, expected {sha256}: another file than the one "
            "compared with the v0.6 tag; do not install it"
        )


def python_files(archive: Path) -> dict[str, bytes]:
    """Return the package's files by path below site-packages; refuse links and escaping paths."""
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                raise InstallError(f"{archive}: the path {member.name!r} leaves the archive")
            if not (member.isfile() or member.isdir()):
                raise InstallError(f"{archive}: {member.name!r} is neither a file nor a folder")
            inside = PurePosixPath(*path.parts[1:])
            if member.isfile() and inside.parts[:1] == ("detectron2",) and inside.suffix == ".py":
                reader = tar.extractfile(member)
                files[str(inside)] = reader.read() if reader else b""
    if "detectron2/__init__.py" not in files:
        raise InstallError(f"{archive}: no detectron2/__init__.py inside")
    return files


def record_line(path: str, content: bytes) -> str:
    """Return one line of a dist-info RECORD (PEP 376): path, hash, size."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}"


def install(archive: Path, site_packages: Path) -> None:
    """Copy the package and a dist-info beside it; the package's own folder appears in one step."""
    info = f"detectron2-{VERSION}.dist-info"
    files = python_files(archive)
    extra = {f"{info}/METADATA": METADATA, f"{info}/INSTALLER": "tools/install_detectron2.py\n"}
    files |= {path: text.encode() for path, text in extra.items()}
    lines = [record_line(path, content) for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    with tempfile.TemporaryDirectory(prefix=".detectron2-", dir=site_packages) as folder:
        for path, content in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        for name in (info, "detectron2"):
            shutil.rmtree(site_packages / name, ignore_errors=True)
            (Path(folder) / name).rename(site_packages / name)


def install_pure_python(site_packages: Path) -> None:
    """Download, verify and install the pure-Python 0.6."""
    with tempfile.TemporaryDirectory() as folder:
        archive = download(Path(folder))
        verify(archive)
        install(archive, site_packages)


def install_upstream(revision: str) -> None:
    """Build upstream's `revision`; torch must be installed, and a C++ compiler at hand."""
    pip("install", "--no-build-isolation", f"git+{REPOSITORY}@{revision}")


def main(arguments: Arguments) -> int:
    """Install Detectron2; return the exit status."""
    revision = arguments.upstream
    if not revision and imports():
        print("detectron2 imports: nothing to do")
        return 0
    try:
        if revision:
            install_upstream(revision)
        else:
            install_pure_python(Path(sysconfig.get_path("purelib")))
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not imports():
        print(f"error: installed, but `{PROBE}` fails: run it to see why", file=sys.stderr)
        return 2
    print(f"installed detectron2 ({revision or VERSION})")
    return 0


if __name__ == "__main__":  # without the project's own modules, which may not import yet
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
