"""Processes take turns, and an error of one is an error of all."""

from pathlib import Path

from tests.processes import start_two

SCRIPT = """
import sys
from pathlib import Path
from pretrain.data.turns import Turns
from pretrain.run.processes import launch

fabric, place = launch("cpu"), Path(sys.argv[1])
turns, rank = Turns(fabric), fabric.global_rank

def look():
    seen = sorted(path.name for path in place.iterdir())
    (place / str(rank)).touch()
    return seen

assert turns.in_order(look) == [*map(str, range(rank)), "look.py"]
assert turns.take(rank == 1, lambda: "mine") == ("mine" if rank == 1 else None)

def fail():
    raise ValueError("no image below /data")

for failing in (0, 1):
    try:
        turns.take(rank == failing, fail)
    except ValueError as error:
        (place / f"{rank}-heard-{failing}").write_text(str(error))
"""


def test_turns_and_errors_of_two_processes(tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(SCRIPT)
    start_two("torchrun", [tmp_path / "look.py", tmp_path])
    heard = sorted(tmp_path.glob("*-heard-*"))
    assert [path.name for path in heard] == ["0-heard-0", "0-heard-1", "1-heard-0", "1-heard-1"]
    assert {path.read_text() for path in heard} == {"no image below /data"}
