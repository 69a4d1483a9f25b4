"""The log of a run: what it says, and that a resumed one ends as an unbroken one."""

import json
import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.run.folder import LOG, TENSORBOARD, TEXT_LOG
from pretrain.run.log import TIMED, RunLog

logger = logging.getLogger("pretrain.some.module")


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


def texts(out: Path) -> list[str]:
    """log.txt without the time of day and what is in brackets."""
    found = (out / TEXT_LOG).read_text().splitlines()
    return [line[len("2026-01-31 12:00:00 ") :].partition("  [")[0] for line in found]


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    board = EventAccumulator(str(out / TENSORBOARD)).Reload()
    tags = set(board.Tags()["scalars"]) - set(TIMED)
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags}


def write(log: RunLog, steps: range) -> None:
    for step in steps:
        log.count(images=8, seconds=0.5, data_seconds=0.125)
        log.write(step, {"loss": 1 / step, "decode.acc_seg": 10.0 * step, "epoch": step // 4})


def test_a_line_has_the_values_and_the_speed_since_the_last_one(tmp_path: Path) -> None:
    log = RunLog(tmp_path, steps=4)
    log.count(images=8, seconds=0.5, data_seconds=0.125)
    log.count(images=8, seconds=0.5, data_seconds=0.125)
    log.write(2, {"any.key": 0.5, "epoch": 1})
    write(log, range(4, 5))
    log.close()
    first, second = lines(tmp_path)
    assert first.pop("peak_memory_mib") > 10
    assert first == {
        "step": 2,
        "any.key": 0.5,
        "epoch": 1,
        "images_per_second": 16.0,
        "data_share": 0.25,
    }
    assert second["images_per_second"] == 16.0
    assert texts(tmp_path)[0] == "step 2 of 4  any.key 0.5  epoch 1"
    assert "[16 images/s, 25 % waiting for data, " in (tmp_path / TEXT_LOG).read_text()
    assert curves(tmp_path)["any.key"] == [(2, 0.5)]


def test_what_was_written_after_the_checkpoint_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    log = RunLog(whole, steps=8)
    logger.info("a run of eight steps")
    write(log, range(1, 9))
    log.close()
    log = RunLog(broken, steps=8)
    logger.info("a run of eight steps")
    write(log, range(1, 4))
    lengths = log.flush_to_disk()
    logger.info("saved")
    write(log, range(4, 6))
    log.close()
    with (broken / LOG).open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    log = RunLog(broken, steps=8, first=3, lengths=lengths)
    write(log, range(4, 9))
    log.close()
    assert [{**line, **dict.fromkeys(TIMED)} for line in lines(whole)] == [
        {**line, **dict.fromkeys(TIMED)} for line in lines(broken)
    ]
    assert texts(whole) == texts(broken)
    assert len(texts(whole)) == 9
    assert curves(whole) == curves(broken)


def test_a_run_without_checkpoint_begins_its_log_again(tmp_path: Path) -> None:
    for _ in range(2):
        log = RunLog(tmp_path, steps=3)
        write(log, range(1, 4))
        log.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert len(texts(tmp_path)) == 3


@pytest.mark.parametrize("name", [LOG, TEXT_LOG])
def test_a_file_shorter_than_at_the_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    log = RunLog(tmp_path, steps=3)
    write(log, range(1, 3))
    lengths = log.flush_to_disk()
    log.close()
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=rf"{name} is shorter than at the training state"):
        RunLog(tmp_path, steps=3, first=2, lengths=lengths)


def test_text_and_curves_can_be_left_to_others(tmp_path: Path) -> None:
    log = RunLog(tmp_path, steps=3, text=False, tensorboard=False)
    write(log, range(1, 2))
    assert set(log.flush_to_disk()) == {LOG}
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == [LOG]


def test_messages_of_the_run_are_in_the_text_and_end_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log = RunLog(tmp_path, steps=3)
    logger.warning("careful")
    logging.getLogger("elsewhere").warning("not ours")
    write(log, range(3, 4))  # the last step is shown on the console as well
    log.close()
    logger.warning("too late")
    assert texts(tmp_path) == ["careful", "step 3 of 3  loss 0.3333  decode.acc_seg 30  epoch 0"]
    assert any("step 3 of 3" in record.message for record in caplog.records)
