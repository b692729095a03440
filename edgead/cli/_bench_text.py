"""A latency report for a person in a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgead.cli._output import colour, table

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport
    from edgead.workflows.bench import Ranking

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "none": "bold"}


def report_text(report: BenchReport) -> str:
    """The verdict first, then the figures, then what makes them doubtful."""
    lines = [
        f"{_verdict(report.verdict)}  {_name(report)}, "
        f"{report.queries} queries on {report.images} images, {report.fps:.4g} images/s"
    ]
    if not report.complete:
        lines.append(colour("interrupted: this is the part before", "yellow", sys.stdout))
    for judgement in report.judgements:
        mark = colour(f"{judgement.verdict:12}", _COLOURS[judgement.verdict], sys.stdout)
        advice = f"; {judgement.advice}" if judgement.advice else ""
        lines.append(f"  {mark}  {judgement.target}: {judgement.reason}{advice}")
    lines += ["", *_figures(report), ""]
    lines += _warnings(report)
    threads = f"{report.threads} threads" if report.threads else "the engine's choice of threads"
    lines.append(
        f"{_machine(report)}; driven by {report.runtime}, {threads}; warm-up {report.warmup_queries} queries"
    )
    return "\n".join(lines)


def ranking_text(ranking: Ranking) -> str:
    """A row per target, the best first."""
    rows = [
        [
            number,
            report.target,
            "–" if report.verdict == "none" else report.verdict.upper(),
            *(_cell(value) for value in report.latency_ms.values()),
            f"{report.fps:.4g}",
            report.queries,
        ]
        for number, report in enumerate(ranking.reports, 1)
    ]
    best = ranking.reports[0]
    lines = [f"{_verdict(ranking.verdict)}  {_name(best)}", ""]
    lines += [table(["", "target", "verdict", *best.latency_ms, "images/s", "queries"], rows), ""]
    lines += [f"left out: {name}: {why}" for name, why in ranking.unavailable.items()]
    for report in ranking.reports:
        lines += [f"{report.target}: {line}" for line in _warnings(report)]
    lines.append(f"latency in ms; {_machine(best)}")
    return "\n".join(lines)


def _verdict(verdict: str) -> str:
    return colour("no target" if verdict == "none" else verdict.upper(), _COLOURS[verdict], sys.stdout)


def _name(report: BenchReport) -> str:
    rate = "" if report.rate is None else f" at {report.rate:g} images/s"
    streams = "" if report.streams == 1 else f", {report.streams} streams"
    return f"{report.target}, {report.scenario}{rate}{streams}"


def _machine(report: BenchReport) -> str:
    where = report.environment
    return f"{where.cpu}, {where.usable_cores} cores, {where.system}"


def _warnings(report: BenchReport) -> list[str]:
    return [f"{colour('warning:', 'yellow', sys.stdout)} {warning}" for warning in report.warnings]


def _figures(report: BenchReport) -> list[str]:
    """A row of percentiles for the latency, each group and each stage, in ms."""
    rows = {"latency": report.latency_ms}
    if report.service_ms != report.latency_ms:
        rows["service time"] = report.service_ms
    rows |= {f"  {name}": stage for name, stage in report.stages_ms.items()}
    if report.tile_ms is not None:
        rows[f"  engine, each of {report.tiles} tiles"] = report.tile_ms
    rows |= {group.name: group.latency_ms for group in report.groups}
    wide = max(len(name) for name in rows) + 2

    lines = [f"{'ms':{wide}}" + "".join(f"{name:>10}" for name in report.latency_ms)]
    lines += [
        f"{name:{wide}}" + "".join(f"{_cell(v):>10}" for v in row.values()) for name, row in rows.items()
    ]
    low, high = report.latency_interval_ms.get("p99", (None, None))
    if low is not None and high is not None:
        lines.append(f"99 % sure: the p99 of the latency lies between {low:.3f} and {high:.3f} ms")
    if None in report.latency_ms.values():
        lines.append("– = too few queries to carry this percentile at 99 % confidence")
    if report.soak is not None:
        lines.append(
            f"memory {report.soak.rss_slope_mb_per_hour:+.3g} MB per hour, "
            f"p99 {report.soak.p99_slope_ms_per_hour:+.3g} ms per hour, in {len(report.soak.windows)} windows"
        )
    return lines


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
