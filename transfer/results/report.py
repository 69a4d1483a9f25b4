"""Records -> table files, and a page with the pictures of predictions beside the table."""

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path

from transfer.results import table
from transfer.results.published import beside_published
from transfer.results.record import Result, read_result

PICTURE_NAME = "predictions.png"


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:left;
border-bottom:1px solid #ddd}
td:nth-child(n+3){font-variant-numeric:tabular-nums}figure{margin:1.5rem 0}
img{max-width:100%}figcaption{color:#555}"""


def write_report(runs: Sequence[Path], out: Path, published: Path) -> str:
    """Write table.md, .csv, .tex and report.html for the records at `runs`; returns the Markdown.

    A run's predictions.png is shown under the table where there is one.
    """
    records = [read_result(run) for run in runs]
    made = table.build_table(records)
    beside = beside_published(made, json.loads(published.read_text()))
    markdown = table.to_markdown(made)
    if beside:
        markdown += f"\n## Beside published figures\n\n{beside}\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(markdown)
    (out / "table.csv").write_text(table.to_csv(made))
    (out / "table.tex").write_text(table.to_latex(made))
    (out / "report.html").write_text(_page(table.to_html(made), runs, records, out))
    return markdown


def _page(body: str, runs: Sequence[Path], records: Sequence[Result], out: Path) -> str:
    figures = [_figure(run, record, out) for run, record in zip(runs, records, strict=True)]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Transfer</title>"
        f"<style>{STYLE}</style><h1>Transfer of masked pretraining</h1>{body}"
        f"<h2>Predictions</h2>{''.join(figures)}</html>\n"
    )


def _figure(run: Path, record: Result, out: Path) -> str:
    folder = run if run.is_dir() else run.parent
    picture = folder / PICTURE_NAME
    if not picture.is_file():
        return ""
    source = html.escape(os.path.relpath(picture, out))
    metrics = ", ".join(f"{name} {value:.1f}" for name, value in record.metrics.items())
    method = table.METHODS.get(record.method, record.method)
    caption = html.escape(f"{method}, {record.task}, seed {record.seed}: {metrics}")
    return (
        f"<figure><img src='{source}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"
    )
