"""The report: one self-contained HTML page about a set of records.

page.py          records -> the page, by jinja2, autoescaped
runs.py          a record with its run's folder: log, pictures, row of the table
gains.py         gains over scratch: intervals, by class
scaling.py       gains against the encoder's size, pretraining's length, the number of labels
curves.py        losses and metrics over training
costs.py         cost, place and time of each run; commands that repeat it
figures.py       curves as SVG that follows the page's colours
picture.py       gains as one PNG, for a README
template.html    the page; style.css its looks; page.js sorting, filtering, hiding, enlarging
"""

from transfer.results.report.page import write_report

__all__ = ["write_report"]
