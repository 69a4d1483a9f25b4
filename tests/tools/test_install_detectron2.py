"""The Detectron2 installer refuses what it was not told to trust; nothing here uses a network."""

import io
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from tools import install_detectron2 as installer

GOOD = {
    "pb1-detectron2-0.6/detectron2/__init__.py": b"__version__ = '0.6'\n",
    "pb1-detectron2-0.6/detectron2/layers/mask.py": b"x = 1\n",
    "pb1-detectron2-0.6/setup.py": b"raise SystemExit('never run')\n",
    "pb1-detectron2-0.6/detectron2/model.pkl": b"not Python\n",
}


def archive(path: Path, files: dict[str, bytes], link: tuple[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link[0])
            member.type, member.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(member)
    return path


def test_another_hash_is_refused(tmp_path):
    with pytest.raises(installer.InstallError, match="another file than the one"):
        installer.verify(archive(tmp_path / "a.tar.gz", GOOD))


def test_the_hash_that_was_asked_for_is_accepted(tmp_path):
    file = tmp_path / "a.tar.gz"
    file.write_bytes(b"abc")
    installer.verify(file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_the_pinned_hash_is_whole():
    assert len(installer.SHA256) == 64
    assert int(installer.SHA256, 16)


@pytest.mark.parametrize(
    "name",
    ["../detectron2/evil.py", "a/../../detectron2/evil.py", "/detectron2/evil.py", "a\\..\\b"],
)
def test_a_path_that_leaves_the_archive_is_refused(tmp_path, name):
    file = archive(tmp_path / "a.tar.gz", GOOD | {name: b""})
    with pytest.raises(installer.InstallError, match="leaves the archive"):
        installer.install(file, tmp_path)
    assert not (tmp_path / "detectron2").exists()


def test_a_link_is_refused(tmp_path):
    file = archive(tmp_path / "a.tar.gz", GOOD, link=("top/detectron2/link.py", "/etc/passwd"))
    with pytest.raises(installer.InstallError, match="neither a file nor a folder"):
        installer.install(file, tmp_path)


def test_an_archive_without_the_package_is_refused(tmp_path):
    file = archive(tmp_path / "a.tar.gz", {"top/other/__init__.py": b""})
    with pytest.raises(installer.InstallError, match=r"no detectron2/__init__\.py"):
        installer.python_files(file)


def test_only_python_files_are_installed_and_pip_knows_them(tmp_path):
    installer.install(archive(tmp_path / "a.tar.gz", GOOD), tmp_path)
    installer.install(tmp_path / "a.tar.gz", tmp_path)  # over itself
    found = {str(p.relative_to(tmp_path)) for p in (tmp_path / "detectron2").rglob("*.*")}
    assert found == {"detectron2/__init__.py", "detectron2/layers/mask.py"}
    assert not list(tmp_path.glob(".detectron2-*"))
    (known,) = metadata.distributions(path=[str(tmp_path)])
    assert (known.metadata["Name"], known.version) == ("detectron2", "0.6")
    assert all(file.locate().is_file() for file in known.files or [])


def test_a_failed_download_is_one_line_not_a_traceback(monkeypatch, capsys):
    def refuse(_site_packages):
        raise installer.InstallError("no index")

    monkeypatch.setattr(installer, "imports", lambda: False)
    monkeypatch.setattr(installer, "install_pure_python", refuse)
    assert installer.main(installer.Arguments()) == 2
    assert capsys.readouterr().err == "error: no index\n"


def test_its_command_line_needs_no_module_of_the_project(tmp_path, monkeypatch):
    for package in ("pretrain", "transfer"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('not installed yet')\n")
    (tmp_path / "tools").mkdir()
    tool = shutil.copy(installer.__file__, tmp_path / "tools")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = subprocess.run([sys.executable, tool, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--upstream REVISION" in done.stdout


def test_it_does_nothing_where_detectron2_imports():
    pytest.importorskip("detectron2")
    command = [sys.executable, "tools/install_detectron2.py"]
    done = subprocess.run(command, cwd=installer.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "detectron2 imports: nothing to do\n")
