"""Unreadable images are found before training."""

import numpy as np
import pytest
from PIL import Image

from pretrain.checks import parallel
from pretrain.checks.findings import Finding, Findings, errors, refuse_errors
from pretrain.checks.images import check_images, read_images
from pretrain.data.readable import check_images_at


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "sub/b.png", "sub/deep/c.bmp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (48, 40, 3), np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def codes(findings):
    return [(f.level, f.code) for f in findings]


def test_a_good_folder_has_no_findings(folder):
    assert check_images_at(folder) == []
    assert check_images_at(folder, decode=False) == []


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", ["a.jpg", "sub/b.png", "sub/deep/c.bmp"])
def test_a_truncated_file_is_found_with_and_without_decoding(folder, name, decode):
    cut(folder / name)
    (finding,) = check_images_at(folder, decode=decode)
    assert (finding.level, finding.code) == ("error", "image-unreadable")
    assert finding.where.endswith(name)
    assert finding.where in finding.fix


@pytest.mark.parametrize("decode", [True, False])
def test_empty_and_renamed_files_are_found(folder, decode):
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    findings = check_images_at(folder, decode=decode)
    assert codes(findings) == [("error", "image-unreadable")] * 2
    assert findings[0].message == "the file is empty"


def test_a_listed_file_that_does_not_exist(folder):
    (finding,) = check_images([folder / "a.jpg", folder / "gone.jpg"])
    assert finding.message == "the file does not exist"


def test_no_images_and_no_folder(tmp_path):
    assert codes(check_images_at(tmp_path)) == [("error", "no-images")]
    assert codes(check_images_at(tmp_path / "gone")) == [("error", "folder-missing")]


def test_warnings_for_small_deep_and_repeated_images(folder):
    (folder / "again.jpg").write_bytes((folder / "a.jpg").read_bytes())
    Image.new("RGB", (8, 100)).save(folder / "small.png")
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(folder / "deep.png")
    found = codes(check_images_at(folder))
    assert found == [("warning", f"image-{c}") for c in ("depth", "small", "twice")]


def test_sizes_are_those_after_exif_rotation(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(folder / "turned.jpg", exif=exif)
    (facts,) = read_images([folder / "turned.jpg"])
    assert (facts.width, facts.height) == (40, 80)


def test_processes_find_the_same(folder, monkeypatch):
    cut(folder / "a.jpg")
    monkeypatch.setattr(parallel, "POOL_FROM", 1)
    assert check_images_at(folder, workers=2) == check_images_at(folder)


def test_errors_are_refused_in_one_sentence_and_can_be_allowed():
    error = Finding("error", "image-missing", "x.jpg", "no such file", "copy it")
    with pytest.raises(ValueError, match=r"1 error:\n.*\[image-missing\] x.jpg: no such file"):
        refuse_errors([error])
    refuse_errors([error], allow=["image-missing"])
    refuse_errors([Finding("warning", "image-small", "x.jpg", "8x8", "leave it out")])


def test_a_thousand_findings_are_kept_short():
    findings = Findings(limit=3)
    for number in range(1000):
        findings.error("image-missing", number, "no such file", "copy it")
    assert len(findings) == 1000
    assert [f.where for f in findings.all()] == ["0", "1", "2", "997 more places"]
    assert len(errors(findings.all())) == 4
