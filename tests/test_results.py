"""What README says of the committed records is what the records say."""

from pathlib import Path

import pytest

from transfer.results.files import BEGIN, END
from transfer.results.formats import grid_to_markdown, to_markdown
from transfer.results.record import find_results, read_result
from transfer.results.table import build_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
EMBEDDED = RESULTS / "embedded"


def test_readme_shows_the_table_of_the_committed_records():
    table = build_table([read_result(path) for path in find_results([EMBEDDED])])
    shown = (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == grid_to_markdown(table).strip()
    assert (EMBEDDED / "table.md").read_text().startswith(to_markdown(table))


@pytest.mark.parametrize("folder", sorted(p.name for p in RESULTS.iterdir() if p.is_dir()))
def test_committed_records_come_from_clean_commits_and_name_no_machine(folder):
    for path in find_results([RESULTS / folder]):
        record = read_result(path)
        assert record.environment.dirty is False, path
        file = (record.weights or {}).get("file") or ""
        assert not file.startswith("/"), path
        assert ":/" not in file, path  # of a control
        assert " /" not in (record.command or ""), path
        assert "=/" not in (record.command or ""), path
