"""A result in Markdown, as GitHub shows it below a job: append it to the file `$GITHUB_STEP_SUMMARY`."""

from __future__ import annotations

from collections.abc import Sequence

from edgead.benchmarks.report import BenchReport

MARKS = {"pass": "✅ PASS", "fail": "❌ FAIL", "inconclusive": "❔ INCONCLUSIVE", "none": "no target"}


def markdown(reports: Sequence[BenchReport]) -> str:
    """The verdicts first, then the figures, then what makes them doubtful.

    Args:
        reports: in the order of the rows, at least one.
    """
    first = reports[0]
    lines = [f"### {_cell(first.bundle or first.target)}: {first.scenario}", ""]
    lines += ["| verdict | target | required | what was seen |", "|---|---|---|---|"]
    for report in reports:
        name = f"`{_cell(report.target)}`"
        if not report.judgements:
            lines.append(f"| {MARKS['none']} | {name} | | |")
        for judgement in report.judgements:
            seen = judgement.reason + (f"; {judgement.advice}" if judgement.advice else "")
            lines.append(
                f"| {MARKS[judgement.verdict]} | {name} | {_cell(judgement.target)} | {_cell(seen)} |"
            )
    percentiles = list(first.latency_ms)
    lines += ["", "| latency in ms | " + " | ".join(percentiles) + " | images/s | queries | dropped |"]
    lines.append("|---" + "|---:" * (len(percentiles) + 3) + "|")
    for report in reports:
        cells = ["–" if value is None else f"{value:.3f}" for value in report.latency_ms.values()]
        cells += [f"{report.fps:.4g}", str(report.queries), str(report.dropped)]
        partial = "" if report.complete else " (interrupted)"
        lines.append(f"| `{_cell(report.target)}`{partial} | " + " | ".join(cells) + " |")
    warnings = dict.fromkeys(warning for report in reports for warning in report.warnings)
    lines += ["", *(f"> ⚠️ {_cell(warning)}" for warning in warnings), ""] if warnings else [""]
    where = first.environment
    lines.append(
        f"{_cell(where.cpu)}, {where.usable_cores} cores, {_cell(where.system)}, edgead {where.edgead}, "
        f"{where.time_utc}"
    )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
