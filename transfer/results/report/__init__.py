"""The report: one self-contained HTML page about a set of records.

page.py          records -> what the page says -> HTML by jinja2, autoescaped
figures.py       gains, curves and class differences as SVG that follows the page's colours
template.html    the page; style.css its looks; table.js sorting, filtering, hiding columns
"""

from transfer.results.report.page import write_report

__all__ = ["write_report"]
