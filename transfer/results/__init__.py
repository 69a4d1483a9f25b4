"""Records, and what is said about them.

record.py       one validated result.json per run
protocol.py     two protocols per record: training and evaluation, hashed by meaning
released.py     records of models that others trained
groups.py       records -> what may share a row, a column or a cell
statistics.py   means, differences with intervals, verdicts
cells.py        the parts of a table
table.py        records -> a table with its notes
formats.py      a table as Markdown, LaTeX, HTML, CSV
files.py        a table on disk, with the published figures beside it
publish.py      records without the paths of the machine they were made on
checks.py       a tree of records: edited, copied, unfinished, unlike
published.py    the papers' figures beside the suite's own
report/         the HTML report
"""
