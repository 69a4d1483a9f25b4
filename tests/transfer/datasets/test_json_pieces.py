"""Pieces are what json reads, wherever a chunk of the file ends."""

import json
from hashlib import sha256

import pytest

from transfer.datasets import json_pieces
from transfer.datasets.json_pieces import JsonPieces

CONTENT = {
    "info": {"year": 2017, "list": [1, 2]},
    "images": [{"id": i, "file_name": f"{i}.png", "box": [1.5, -2e-3, None, True]} for i in (1, 2)],
    "number": 12345678,
    "empty": [],
    "annotations": [{"é": "\u2028ß"}, 3, 12.5, 'a"b\\', [], {}],
}
FORMS = ({}, {"indent": 2}, {"ensure_ascii": False}, {"separators": (",", ":")})


@pytest.mark.parametrize("chunk", [1, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_pieces_are_what_json_reads(tmp_path, monkeypatch, chunk, form):
    monkeypatch.setattr(json_pieces, "CHUNK_BYTES", chunk)
    path = tmp_path / "file.json"
    path.write_text(json.dumps(CONTENT, **form), encoding="utf-8")
    pieces, found = JsonPieces(path), {}
    for piece in pieces:
        found.setdefault(piece.key, []).append(piece.value)
        assert json.loads(path.read_bytes()[piece.start : piece.end]) == piece.value
    assert {**pieces.others, "empty": [], **found} == CONTENT
    assert pieces.lists == ["images", "empty", "annotations"]
    assert pieces.sha256 == sha256(path.read_bytes()).hexdigest()


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": [17]}', encoding="utf-8-sig")
    (piece,) = JsonPieces(path)
    assert path.read_bytes()[piece.start : piece.end] == b"17"


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("", 0),
        ("[1]", 0),
        ('{"a": [1, 2', 11),
        ('{"a": [1 2]}', 9),
        ('{"a": x}', 6),
        ('{"a": [1]} 3', 11),
        ('{"a": [{"b": 1},]}', 16),
        ("{1: 2}", 2),
        ('{"a": "b', 6),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(tmp_path, monkeypatch, text, byte):
    monkeypatch.setattr(json_pieces, "CHUNK_BYTES", 4)
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"file\.json: not a JSON object at byte {byte}: "):
        list(JsonPieces(path))
