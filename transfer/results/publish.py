"""Records that leave the machine they were made on: no paths of it, and nothing but records."""

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pretrain.files.write import atomic_write, refuse_file
from transfer.results.record import Result, find_results, read_result

ABSOLUTE = re.compile(r"""(?<![\w./])/(?:[^\s'"=:/]+/)+([^\s'"=:/]*)""")  # its last part is kept


def publish(
    runs: Path,
    to: Path,
    *,
    only: Sequence[str] = ("*",),
    skip: Sequence[str] = (),
    replace: bool = False,
) -> tuple[int, int]:
    """Copy the records below `runs` to the same place below `to`.

    `only` and `skip` are patterns of paths below `runs`, in which "*" matches "/" too.

    Returns how many are new, and how many were there already.

    All are read before one is written. Raises FileNotFoundError if there is none, ValueError for a
    record that is not valid, or that `to` holds with other content (unless `replace`).
    """
    root = runs.resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs at {runs}")
    if to.resolve().is_relative_to(root):
        raise ValueError(f"{to} lies in {runs}: tables of the runs would count each record twice")
    refuse_file(to)
    places = {path.resolve().relative_to(root): path for path in find_results([root])}
    chosen = {
        place: path
        for place, path in places.items()
        if _fits(place, only) and not _fits(place, skip)
    }
    if not chosen:
        raise FileNotFoundError(f"none of the {len(places)} records in {runs} fits --only, --skip")
    texts = {to / place: _text(read_result(path), root) for place, path in chosen.items()}
    new = {path: text for path, text in texts.items() if not _says(path, text)}
    other = [path for path in new if path.exists()]
    if other and not replace:
        raise ValueError(
            f"{other[0]} says something else ({len(other)} such): give --replace to write over it"
        )
    for path, text in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda temporary, text=text: temporary.write_text(text))  # type: ignore[misc]
    return len(new), len(texts) - len(new)


def _fits(place: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(place.as_posix(), pattern) for pattern in patterns)


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def _told(said: str, root: Path) -> str:
    """Return a weights file as it is named from the runs; by its name alone if it is not there.

    A control keeps its words: "control:shuffled:FILE".
    """
    words, colon, path = said.rpartition(":") if said.startswith("control:") else ("", "", said)
    file = Path(path)
    if file.is_relative_to(root):
        file = file.relative_to(root)
    told = file.name if file.is_absolute() else file.as_posix()
    return f"{words}{colon}{told}"


def _text(result: Result, root: Path) -> str:
    content: dict[str, Any] = json.loads(result.model_dump_json())
    if content["weights"] and content["weights"].get("file"):
        content["weights"]["file"] = _told(content["weights"]["file"], root)
    if content["command"]:
        command = content["command"].replace(f"{root}/", f"{root.name}/")
        content["command"] = ABSOLUTE.sub(r"\1", command)
    return json.dumps(content, indent=1) + "\n"
