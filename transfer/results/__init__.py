"""Records, and what is said about them.

record.py       one validated result.json per run
protocol.py     two protocols a record: training and evaluation, hashed by meaning
table.py        records -> Markdown, CSV, LaTeX
published.py    the papers' figures beside the suite's own
report/         the HTML report
"""
