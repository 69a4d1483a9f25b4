"""States of steps on disk: done when the fingerprint matches, and why it does not in words."""

import json
from dataclasses import replace

import pytest

from transfer.suites.board import Board
from transfer.suites.inputs import MISSING
from transfer.suites.marks import mark_path, read_mark


def chain(step, lr=0.1, needs_lr=0.1):
    """Return a pretraining and a cell that builds on it."""
    return [
        step("pretrain/p", settings={"config": {"optimizer": {"lr": needs_lr}}}),
        step("cell", "", ("pretrain/p",), settings={"config": {"lr": lr}, "seed": 0}),
    ]


def test_a_changed_setting_makes_its_step_stale_and_says_which(tmp_path, step, launch):
    launch(chain(step))
    board = Board(chain(step, lr=0.2), tmp_path)
    assert board.state("pretrain/p").kind == "done"
    assert board.state("cell").kind == "stale"
    assert board.state("cell").why == ("lr was 0.1, is 0.2",)


def test_a_change_upstream_makes_what_builds_on_it_stale(tmp_path, step, launch):
    launch(chain(step))
    board = Board(chain(step, needs_lr=0.2), tmp_path)
    assert board.state("pretrain/p").why == ("optimizer.lr was 0.1, is 0.2",)
    assert board.state("cell").why == ("pretrain/p, which it builds on, has changed",)


def test_stale_steps_run_again_and_the_former_are_kept(tmp_path, step, launch):
    launch(chain(step))
    (tmp_path / "cell" / "log.txt").write_text("of the first")
    launcher = launch(chain(step, lr=0.2))
    assert launcher.seconds.keys() == {"cell"}
    assert Board(chain(step, lr=0.2), tmp_path).state("cell").kind == "done"
    aside = tmp_path.with_name(f"{tmp_path.name}.stale") / "cell-1"
    assert (aside / "log.txt").read_text() == "of the first"
    assert not (tmp_path / "cell" / "log.txt").exists()


def test_an_unfinished_step_of_other_settings_is_not_resumed(tmp_path, step, launch):
    launch(chain(step))
    (tmp_path / "cell" / "result.json").unlink()
    assert Board(chain(step), tmp_path).state("cell").kind == "todo"
    assert Board(chain(step, lr=0.2), tmp_path).state("cell").kind == "stale"


def test_a_suite_moved_to_another_folder_is_finished_there(tmp_path, step, launch):
    launch(chain(step))
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    steps = [replace(s, product=moved / s.product.relative_to(tmp_path)) for s in chain(step)]
    board = Board(steps, moved)
    assert {state.kind for state in board.states().values()} == {"done"}


def test_weights_that_were_moved_away_leave_a_finished_step_finished(tmp_path, step, launch):
    launch([step("a", settings={"weights": "1234"})])
    gone = [step("a", settings={"weights": MISSING})]
    assert Board(gone, tmp_path).state("a").kind == "done"
    assert Board([step("a", settings={"weights": "5678"})], tmp_path).state("a").kind == "stale"


def test_a_product_that_nothing_is_known_of_is_stale(tmp_path, step, launch):
    launch([step("a")])
    mark_path(tmp_path / "a").unlink()
    assert Board([step("a")], tmp_path).state("a").kind == "stale"
    mark_path(tmp_path / "a").write_text("{")
    assert Board([step("a")], tmp_path).state("a").kind == "stale"


def test_redone_steps_take_what_builds_on_them_along(tmp_path, step, launch):
    steps = chain(step)
    launch(steps)
    board = Board(steps, tmp_path)
    again = board.with_dependents(board.matching(["pretrain"]))
    assert again == {"pretrain/p", "cell"}
    board.forget(again, aside=True)
    assert {state.kind for state in board.states().values()} == {"todo"}


def test_stale_steps_can_be_accepted_as_they_are(tmp_path, step, launch):
    launch(chain(step))
    changed = Board(chain(step, lr=0.2, needs_lr=0.2), tmp_path)
    assert changed.accept(changed.matching(["*"])) == ["pretrain/p", "cell"]
    assert {state.kind for state in changed.states().values()} == {"done"}
    assert not launch(chain(step, lr=0.2, needs_lr=0.2)).seconds
    (tmp_path / "cell" / "result.json").unlink()
    unfinished = Board(chain(step, lr=0.3, needs_lr=0.2), tmp_path)
    assert unfinished.accept({"cell"}) == []


def test_a_step_that_another_launcher_runs_is_not_redone(tmp_path, step):
    board = Board([step("a")], tmp_path)
    with board.lease("a"), pytest.raises(ValueError, match="writes in"):
        board.forget(["a"], aside=True)


def test_patterns_name_parts_or_fit_as_in_a_shell(tmp_path, step):
    board = Board(chain(step), tmp_path)
    assert board.matching(["pretrain"]) == {"pretrain/p"}
    assert board.matching(["c?ll"]) == {"cell"}
    assert board.with_needs({"cell"}) == {"cell", "pretrain/p"}
    with pytest.raises(ValueError, match="no step fits 'sel'; the steps are pretrain/p, cell"):
        board.matching(["sel"])


def test_hours_are_unknown_after_a_launcher_was_killed(tmp_path, step, launch):
    launch([step("a")])
    mark = read_mark(tmp_path / "a")
    assert mark.hours > 0
    replace(mark, running_since=1.0).write(tmp_path / "a")
    (tmp_path / "a" / "result.json").unlink()
    launch([step("a")])
    assert read_mark(tmp_path / "a").hours is None


def test_a_fingerprint_holds_no_path(tmp_path, step, launch):
    launch(chain(step))
    for path in tmp_path.rglob("*.step.json"):
        assert str(tmp_path) not in json.dumps(json.loads(path.read_text()))
