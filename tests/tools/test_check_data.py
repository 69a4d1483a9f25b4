"""The tool's exit codes: 0 clean, 1 for errors in the data, 2 for a wrong command line."""

import os
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from tools import check_data


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["check_data.py", *map(str, arguments), "--workers", "1"])
        code = check_data.main()
        return code, capsys.readouterr()

    return run


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


def test_clean_data(run, images):
    code, output = run("images", images)
    assert code == 0
    assert "ok" in output.out


def test_an_error_is_reported_with_its_fix_and_can_be_allowed(run, images):
    (images / "b.jpg").write_bytes(b"x")
    code, output = run("images", images)
    assert code == 1
    assert "[image-unreadable]" in output.out
    assert f"rm '{images / 'b.jpg'}'" in output.out
    assert run("images", images, "--allow", "image-unreadable")[0] == 0


def test_coco_and_ade20k_without_data(run, tmp_path):
    code, output = run("coco", tmp_path)
    assert code == 1
    assert output.out.count("[annotations-missing]") == 2
    assert run("ade20k", tmp_path)[0] == 1


@pytest.mark.parametrize(
    "arguments", [("coco",), ("coco", "--train-json", "x.json"), ("ade20k", "--val-images", "x")]
)
def test_half_a_pair_is_refused(run, arguments):
    code, output = run(*arguments)
    assert code == 2
    assert output.err.startswith("error: ")


def test_shards_and_lists_are_checked_as_training_reads_them(run, images, tmp_path_factory):
    (images / "b.jpg").write_bytes(b"x")
    place = tmp_path_factory.mktemp("other")
    with tarfile.open(place / "0.tar", "w") as archive:
        archive.add(images / "a.png", "a.png")
        archive.add(images / "b.jpg", "b.jpg")
    (place / "list.txt").write_text(f"{images / 'a.png'}\n{images / 'b.jpg'}\n")
    for given, where in ((place / "0.tar", "0.tar:b.jpg"), (place / "list.txt", "b.jpg")):
        code, output = run("images", given)
        assert code == 1
        assert output.out.count("[image-unreadable]") == 1
        assert where in output.out


def test_links_and_fifos_among_the_images_are_errors(run, images):
    os.mkfifo(images / "b.jpg")
    (images / "c.jpg").symlink_to("nowhere.jpg")
    (images / "up").symlink_to(images)
    code, output = run("images", images)
    assert code == 1
    assert "b.jpg is not a regular file" in output.out
    assert "the file does not exist" in output.out
    assert output.out.count("[image-unreadable]") == 2


def test_an_empty_path_is_refused(run, images, monkeypatch):
    monkeypatch.chdir(images)
    status, said = run("images", "")
    assert status == 2
    assert "an empty word after images on the command line" in said.err
