"""A large JSON file read in pieces: the elements of its top-level lists, and where they stand."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

CHUNK_BYTES = 1 << 24
BLANK = re.compile(r"[ \t\n\r]*")
AFTER_A_VALUE = tuple(" \t\n\r,:]}")
BOM = b"\xef\xbb\xbf"
DECODER = json.JSONDecoder()


class Piece(NamedTuple):
    """An element of the list `key`, at bytes `start` to `end` of the file."""

    key: str
    value: Any
    start: int
    end: int


class JsonPieces:
    """Iterate once over the pieces of a file that holds one JSON object.

    Only a chunk of the file and one element are in memory. After the iteration `lists` has the keys
    of lists, `others` the values that are not lists, and `sha256` the file's digest. Raises
    ValueError with the byte at which the file is not such an object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lists: list[str] = []
        self.others: dict[str, Any] = {}
        self._hash = sha256()
        # one character a byte, so that places in the text are places in the file
        self._text, self._before, self._at = "", 0, 0

    @property
    def sha256(self) -> str:
        """Digest of the bytes read."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Piece]:
        with self.path.open("rb") as self._file:
            try:
                yield from self._pieces()
            except RecursionError:
                raise ValueError(f"{self.path}: lists or objects are nested too deeply") from None

    def _pieces(self) -> Iterator[Piece]:
        self._take("{")
        if self._next() == "}":
            self._at += 1
        else:
            yield from self._members()
        if self._next():
            self._fail("something follows the object")

    def _members(self) -> Iterator[Piece]:
        while True:
            key = self._value("").value
            if not isinstance(key, str):
                self._fail("a key is not a text")
            self._take(":")
            if self._next() == "[":
                self.lists.append(key)
                yield from self._elements(key)
            else:
                self.others[key] = self._value(key).value
            if self._take(",}") == "}":
                return

    def _elements(self, key: str) -> Iterator[Piece]:
        self._take("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value(key)
            if self._take(",]") == "]":
                return

    def _value(self, key: str) -> Piece:
        self._next()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    self._fail(error.msg, error.pos)
                continue
            whole = self._text[end : end + 1] in AFTER_A_VALUE  # else a number may go on
            if whole or not self._more():
                break
        text = self._text[self._at : end]
        if not text.isascii():
            value = json.loads(text.encode("latin-1"))
        piece = Piece(key, value, self._before + self._at, self._before + end)
        self._at = end
        return piece

    def _next(self) -> str:
        """Skip blanks; return the character there, "" at the end of the file."""
        while True:
            self._at = BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, characters: str) -> str:
        found = self._next()
        if not found or found not in characters:
            self._fail(f"expected {' or '.join(characters)}")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Read on, and forget what lies behind; twice as much where an element is longer."""
        data = self._file.read(max(CHUNK_BYTES, len(self._text) - self._at))
        if not data:
            return False
        self._hash.update(data)
        if not self._before and not self._text and data.startswith(BOM):
            self._before, data = len(BOM), data[len(BOM) :]
        self._before += self._at
        self._text = self._text[self._at :] + data.decode("latin-1")
        self._at = 0
        return True

    def _fail(self, message: str, at: int | None = None) -> None:
        place = self._before + (self._at if at is None else at)
        raise ValueError(f"{self.path}: not a JSON object at byte {place}: {message}")
