"""The check of a tree of records finds each fault, and names its fix."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.transfer.results.test_groups import pretrained
from tests.transfer.results.test_table import record
from transfer.results.checks import check_records
from transfer.results.record import write_result

TOOL = Path(__file__).resolve().parents[2] / "tools/check_records.py"


@pytest.fixture
def tree(tmp_path):
    """Two seeds of FCMAE and of scratch, as they should be."""
    for seed in range(2):
        for name, run in (
            ("fcmae", pretrained(50.0 + seed, seed=seed)),
            ("scratch", record("scratch", 40.0 + seed, seed=seed)),
        ):
            folder = tmp_path / name / f"seed{seed}"
            folder.mkdir(parents=True)
            write_result(run, folder)
    return tmp_path


def kinds(tree):
    return [finding.kind for finding in check_records([tree])[1]]


def test_a_good_tree_has_no_findings(tree):
    assert check_records([tree]) == (4, [])


def test_an_edited_record_is_found(tree):
    path = tree / "fcmae/seed0/result.json"
    content = json.loads(path.read_text())
    content["train"]["max_iter"] = 7
    path.write_text(json.dumps(content))
    count, (finding,) = check_records([tree])
    assert (count, finding.kind, finding.where) == (3, "edited", (path,))
    assert "train_hash" in finding.what
    assert "run it again" in finding.fix


def test_a_copy_is_found_also_under_another_seed(tree):
    path = tree / "fcmae/seed1/result.json"
    content = json.loads((tree / "fcmae/seed0/result.json").read_text())
    path.write_text(json.dumps({**content, "seed": 1}))
    (finding,) = check_records([tree])[1]
    assert finding.kind == "duplicate"
    assert "under seeds 0, 1" in finding.what


def test_a_seed_that_ran_twice_is_found(tree):
    write_result(pretrained(53.0, seed=0), tree / "fcmae/seed1")
    assert kinds(tree) == ["repeated"]


def test_a_run_without_a_record_is_found(tree):
    (tree / "fcmae/seed0/result.json").unlink()
    for name in ("state.pt", "run.json"):
        (tree / "fcmae/seed0" / name).write_text("{}")
    (finding,) = check_records([tree])[1]
    assert (finding.kind, finding.where) == ("unfinished", (tree / "fcmae/seed0",))
    assert "--resume" in finding.fix


def test_scratch_of_other_settings_is_found(tree):
    for seed in range(2):
        changed = record(
            "scratch", 40.0, seed=seed, protocol={"max_iter": 20}, metrics={"AP_box": seed}
        )
        write_result(changed, tree / f"scratch/seed{seed}")
    (finding,) = check_records([tree])[1]
    assert finding.kind == "unlike"
    assert "differs in max_iter" in finding.what


def test_the_tool_says_it_by_its_status(tree):
    def call(*arguments):
        done = subprocess.run(
            [sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert call(tree) == (0, "4 good records, 0 findings\n")
    (tree / "fcmae/seed0/result.json").write_text("{}")
    status, said = call(tree)
    assert status == 1
    assert "edited" in said
    status, said = call(tree / "nowhere")
    assert (status, "no such file or folder" in said) == (2, True)
