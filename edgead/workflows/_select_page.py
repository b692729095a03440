"""The report of `select` as one HTML page: the winner, the frontier, every candidate."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import OutputError

if TYPE_CHECKING:
    from edgead.workflows.select import SelectReport


def write(path: Path, report: SelectReport) -> None:
    """Write the page.

    Raises:
        OutputError: the file cannot be written.
    """
    from edgead.benchmarks import figures
    from edgead.benchmarks.html import figure, page

    title = f"{report.bundle.name}: chosen for a p99 of {report.budget_ms:g} ms"
    points = [
        (one.name, one.p99_ms, one.accuracy, one.name == report.winner)
        for one in report.candidates
        if one.p99_ms is not None and one.accuracy is not None
    ]
    rows = "".join(
        f'<tr><td class="text">{html.escape(one.name)}</td><td>{_shown(one.accuracy, 4)}</td>'
        f"<td>{_shown(one.p50_ms, 2)}</td><td>{_shown(one.p99_ms, 2)}</td><td>{_shown(one.trial_ms, 2)}</td>"
        f'<td class="text">{html.escape(one.verdict or one.status)}</td>'
        f'<td class="text">{html.escape(one.reason)}</td></tr>'
        for one in report.candidates
    )
    columns = ("candidate", "accuracy", "p50 ms", "p99 ms", "untrained ms")
    head = "".join(f"<th>{name}</th>" for name in columns)
    head += "".join(f'<th class="text">{name}</th>' for name in ("verdict", "why not"))
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<div class="verdict pass"><b>{html.escape(report.winner)}</b>'
        f"<p>Accuracy: {html.escape(report.measure)}.</p></div>",
        figure(figures.frontier(points, report.budget_ms), "Accuracy over the p99; up and left is better."),
        f"<h2>Candidates</h2><table><tr>{head}</tr>{rows}</table>",
    ]
    try:
        path.write_text(page(title, parts), encoding="utf-8")
    except OSError as err:
        raise OutputError(f"{path} cannot be written: {err.strerror}") from err


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
