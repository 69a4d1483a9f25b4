"""Records, and what is said about them.

record.py       one validated result.json per run
table.py        records -> Markdown, CSV, LaTeX
published.py    the papers' figures beside the suite's own
report/         the HTML report
"""
