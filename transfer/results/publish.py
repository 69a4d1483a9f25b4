"""Records that leave the machine they were made on: no paths of it, and nothing but records."""

import json
import re
from pathlib import Path
from typing import Any

from pretrain.files.write import atomic_write
from transfer.results.record import Result, find_results, read_result

ABSOLUTE = re.compile(r"""(?<![\w./])/(?:[^\s'"=:/]+/)+([^\s'"=:/]*)""")  # its last part is kept


def publish(runs: Path, to: Path, *, replace: bool = False) -> tuple[int, int]:
    """Copy every record below `runs` to the same place below `to`.

    Returns how many are new, and how many were there already.

    All are read before one is written. Raises FileNotFoundError if there is none, ValueError for a
    record that is not valid, or that `to` holds with other content (unless `replace`).
    """
    root = runs.resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs at {runs}")
    texts = {
        to / path.resolve().relative_to(root): _text(read_result(path), root)
        for path in find_results([root])
    }
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
