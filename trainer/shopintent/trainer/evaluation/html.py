"""The report as one HTML file that needs no network."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shopintent.trainer.evaluation.presentation import METRICS
from shopintent.trainer.evaluation.sections import Report, headlines, sections

TEMPLATE = "report.html.jinja"


def page(report: Report) -> str:
    """Returns the page; whatever a log or a model is called, it is text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    used = {row.metric for row in report.rows}
    return environment.get_template(TEMPLATE).render(
        report=report,
        sections=sections(report),
        headlines=headlines(report.rows),
        metrics=[metric for name, metric in METRICS.items() if name in used],
    )
