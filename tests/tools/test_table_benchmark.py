"""The benchmark of tables: its records are read, and make the table that it says."""

from tools.benchmarks import table
from transfer.results.record import find_results, read_result


def test_the_records_are_those_of_a_table(tmp_path):
    table.write_records(tmp_path, 100)
    found = [read_result(path) for path in find_results([tmp_path])]
    assert len(found) == 100
    assert {record.method for record in found} == set(table.METHODS)
    assert {record.seed for record in found} == {0, 1}


def test_the_seconds_are_of_the_whole_command(capsys):
    figures = table.run(table.Arguments(records=50, repeats=1))
    assert figures["cpu_seconds"] > 0
    assert "50 records of" in capsys.readouterr().out
