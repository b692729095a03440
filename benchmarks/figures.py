"""Pictures of a run as SVG text, drawn by matplotlib: no script, no font file, sharp in print."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.order_statistics import rank, samples_needed
from edgead.benchmarks.run import PLANNED, Run
from edgead.benchmarks.soak import Soak

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport
    from edgead.benchmarks.targets import Targets
    from edgead.calibration.sensitivity import Repair

# Okabe and Ito's colours, which the colour-blind can tell apart.
_BLUE, _ORANGE, _RED, _GREEN, _GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#5d6875"
_STAGE_COLOURS = {
    "decode": "#CC79A7",
    "preprocess": _ORANGE,
    "host_to_device": "#F0E442",
    "engine": _BLUE,
    "device_to_host": "#56B4E9",
    "post": _GREEN,
}
_TARGET_COLOURS = (_BLUE, _ORANGE, _GREEN, "#CC79A7", "#56B4E9", _RED)
_SIZE = (5.2, 3.0)  # inches
_MOST_POINTS = 800
_MOST_LAYERS = 24
_PERCENTILES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "edgead",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def of(run: Run | Soak, targets: Targets, report: BenchReport) -> dict[str, str]:
    """Caption → SVG, for a run that is not empty."""
    found: dict[str, str] = {}
    limits = {
        name: limit / 1e6
        for name, limit in (
            ("p99 target", targets.p99_ns),
            ("p99.9 target", targets.p999_ns),
            ("deadline", targets.deadline_ns),
        )
        if limit is not None
    }
    if isinstance(run, Soak):
        values, counts = _recorded(run)
        found["p50, p99 and maximum of the latency over time."] = _windows(run, limits)
        found["Memory of the process over time."] = _memory(run)
    else:
        latency = run.latency_ns / 1e6
        values, counts = np.unique(latency, return_counts=True)
        if run.scenario == "idle-gap":
            found["Latency after a pause, left alone and kept warm; bars reach from p10 to p90."] = _gaps(run)
        else:
            found["Latency of every query over time; of many, the slowest of each moment."] = _over_time(
                run, limits
            )
    if run.scenario != "idle-gap":  # there they would mix what the pauses tell apart
        found["How often which latency."] = _histogram(values, counts, limits)
        found["The latency that so many queries keep to; dotted: more than they carry at 99 %."] = _quantiles(
            values, counts, limits
        )
    if report.stages_ms:
        found["Where the time goes: median of each stage."] = _stages(report)
    return found


def accuracy(points: Sequence[tuple[BenchReport, float]]) -> str:
    """Image AUROC over the p50 (dot) and p99 (end of the line) of the latency."""
    with _axes((7.6, 2.6)) as (figure, axes):
        for number, (report, auroc) in enumerate(points):
            p50, p99 = report.latency_ms["p50"], report.latency_ms["p99"]
            if p50 is None:
                continue
            colour = _TARGET_COLOURS[number % len(_TARGET_COLOURS)]
            if p99 is not None:
                axes.plot([p50, p99], [auroc, auroc], color=colour, linewidth=1.5, alpha=0.6)
            axes.plot([p50], [auroc], "o", color=colour, label=report.target)
        axes.set_xlabel("latency in ms: p50 to p99")
        axes.set_ylabel("image AUROC")
        axes.set_xlim(left=0)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _svg(figure)


def frontier(points: Sequence[tuple[str, float, float, bool]], budget_ms: float) -> str:
    """Accuracy over the p99: every candidate, the frontier as steps, the budget, the winner's name.

    Args:
        points: (name, p99 in ms, accuracy, whether it won).
        budget_ms: drawn as a line.
    """
    with _axes((7.6, 3.6)) as (figure, axes):
        best, steps = -1.0, []
        for _, p99, accurate, _ in sorted(points, key=lambda point: (point[1], -point[2])):
            if accurate > best:
                best = accurate
                steps.append((p99, accurate))
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color=_GREY, linewidth=1, label="frontier")
        for name, p99, accurate, won in points:
            axes.plot(
                [p99],
                [accurate],
                "*" if won else "o",
                color=_GREEN if won else _BLUE,
                zorder=3,
                markersize=14 if won else 5,
            )
            if won or (p99, accurate) in steps:
                axes.annotate(name, (p99, accurate), xytext=(4, -11), textcoords="offset points", fontsize=7)
        _limits(axes, {"p99 budget": budget_ms}, across=False)
        axes.set_xlabel("p99 of the latency in ms")
        axes.set_ylabel("accuracy (AUROC)")
        axes.set_xlim(left=0)
        return _svg(figure)


def int8_repair(repair: Repair) -> str:
    """Which layers the error of an 8-bit engine comes from, and what their return to float costs."""
    returned = set(repair.steps[-1].returned)
    shown = sorted(repair.layers, key=lambda layer: layer.error, reverse=True)[:_MOST_LAYERS]
    size = (11.0, max(3.2, 0.19 * len(shown) + 1.2))
    with _axes(size, ncols=2, width_ratios=(3, 2)) as (figure, (left, right)):
        colours = [_ORANGE if layer.name in returned else _BLUE for layer in shown]
        left.barh(range(len(shown)), [layer.error for layer in shown], color=colours)
        left.set_yticks(range(len(shown)), [layer.name for layer in shown], fontsize=7)
        left.invert_yaxis()
        left.set_xlabel("map error with this layer alone in 8 bits")
        left.plot([], [], color=_ORANGE, linewidth=6, label="back in float")
        left.plot([], [], color=_BLUE, linewidth=6, label="8 bits")
        left.legend(loc="lower right")
        times = [repair.microseconds(step) / 1e3 for step in repair.steps]
        right.plot(times, [step.error for step in repair.steps], "o-", color=_BLUE)
        right.plot(times[-1], repair.steps[-1].error, "o", color=_ORANGE, markersize=10, label="taken")
        right.axhline(repair.goal, color=_GREY, linestyle="--", label=f"aimed at: {repair.goal:g}")
        right.set_ylim(bottom=0)
        right.set_xlabel("float time of the layers that went back, about, ms")
        right.set_ylabel("map error of the engine")
        right.legend()
        return _svg(figure)


def _over_time(run: Run, limits: dict[str, float]) -> str:
    order = np.argsort(run.times[:, PLANNED], kind="stable")
    seconds = (run.times[order, PLANNED] - run.times[:, PLANNED].min()) / 1e9
    latency = run.latency_ns[order] / 1e6
    if len(latency) > _MOST_POINTS:  # a spike must not vanish
        parts = np.array_split(np.arange(len(latency)), _MOST_POINTS)
        chosen = np.array([part[latency[part].argmax()] for part in parts])
        seconds, latency = seconds[chosen], latency[chosen]
    with _axes() as (figure, axes):
        axes.plot(seconds, latency, ".", markersize=2.5, color=_BLUE, rasterized=False)
        _limits(axes, limits, across=True)
        axes.set_xlabel("s since the start")
        axes.set_ylabel("latency in ms")
        axes.set_ylim(bottom=0)
        return _svg(figure)


def _histogram(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], limits: dict[str, float]
) -> str:
    from matplotlib.ticker import LogLocator, NullFormatter

    with _axes() as (figure, axes):
        low, high = max(float(values.min()), 1e-6), float(values.max())
        wide = high > 5 * low
        edges = np.geomspace(low, high, 61) if wide else np.linspace(low, max(high, low * 1.001), 61)
        heights, _, _ = axes.hist(values, bins=edges, weights=counts, color=_BLUE)
        if wide:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if heights.max() > 50:  # so that the few slow ones are seen beside the many
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _limits(axes, limits, across=False)
        axes.set_xlabel("latency in ms")
        axes.set_ylabel("queries")
        return _svg(figure)


def _quantiles(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], limits: dict[str, float]
) -> str:
    n = int(counts.sum())
    reached = np.cumsum(counts)
    shares = 1.0 - np.geomspace(1.0, 1.0 / n, min(n, 300))
    latency = values[np.searchsorted(reached, [rank(float(p), n) for p in shares])]
    carried = np.array([p <= 0 or samples_needed(float(p)) <= n for p in shares])
    x = np.log10(1.0 / (1.0 - shares))
    with _axes() as (figure, axes):
        axes.plot(x[carried], latency[carried], color=_BLUE)
        last = max(int(carried.sum()) - 1, 0)
        axes.plot(x[last:], latency[last:], color=_BLUE, linestyle=":")
        _limits(axes, limits, across=True)
        shown = [p for p in _PERCENTILES if 1.0 - p >= 0.99 / n]
        axes.set_xticks([np.log10(1.0 / (1.0 - p)) for p in shown], [f"p{100 * p:g}" for p in shown])
        axes.set_ylabel("latency in ms")
        axes.set_ylim(bottom=0)
        return _svg(figure)


def _stages(report: BenchReport) -> str:
    with _axes((5.2, 1.7)) as (figure, axes):
        left = 0.0
        for stage, figures in report.stages_ms.items():
            width = figures["p50"] or 0.0
            colour = _STAGE_COLOURS.get(stage, _GREY)
            axes.barh(0, width, left=left, color=colour, label=f"{stage} {width:.2f} ms")
            left += width
        whole = report.service_ms["p50"]
        if whole is not None and whole > left:
            axes.barh(0, whole - left, left=left, color="#cfd5dc", label=f"rest {whole - left:.2f} ms")
        axes.set_yticks([])
        axes.set_xlabel("ms")
        axes.grid(visible=False)
        axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return _svg(figure)


def _gaps(run: Run) -> str:
    with _axes() as (figure, axes):
        for warm, colour, label in ((False, _RED, "left alone"), (True, _GREEN, "kept warm")):
            names = [name for name in run.groups if name.endswith("kept warm") == warm]
            parts = [(name, run.select((name,)).latency_ns / 1e6) for name in names]
            parts = [(name.split(" ")[0], latency) for name, latency in parts if len(latency)]
            middle = np.array([np.median(latency) for _, latency in parts])
            ends = np.array([np.quantile(latency, [0.1, 0.9]) for _, latency in parts]).reshape(-1, 2)
            x = np.arange(len(parts)) + (0.12 if warm else -0.12)
            reach = np.abs(ends.T - middle)
            axes.errorbar(x, middle, reach, fmt="o", color=colour, label=label, capsize=3, markersize=4)
            axes.set_xticks(np.arange(len(parts)), [name for name, _ in parts])
        axes.set_xlabel("s of pause")
        axes.set_ylabel("latency in ms")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        return _svg(figure)


def _windows(run: Soak, limits: dict[str, float]) -> str:
    hours, unit = _hours(run)
    with _axes() as (figure, axes):
        for name, colour in (("p50_ms", _BLUE), ("p99_ms", _ORANGE), ("max_ms", _GREY)):
            values = [getattr(window, name) for window in run.windows]
            axes.plot(hours, values, ".-", color=colour, linewidth=1, markersize=3, label=name[:-3])
        _limits(axes, limits, across=True)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{unit} since the start")
        axes.set_ylabel("latency in ms")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        return _svg(figure)


def _memory(run: Soak) -> str:
    hours, unit = _hours(run)
    with _axes() as (figure, axes):
        axes.plot(hours, [window.rss_bytes / 1e6 for window in run.windows], ".-", color=_BLUE, markersize=3)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{unit} since the start")
        axes.set_ylabel("resident memory in MB")
        return _svg(figure)


def _hours(run: Soak) -> tuple[list[float], str]:
    last = run.windows[-1].end_ns / 1e9
    scale, unit = (1.0, "s") if last < 600 else (60.0, "min") if last < 36_000 else (3_600.0, "h")
    return [window.end_ns / 1e9 / scale for window in run.windows], unit


def _recorded(run: Soak) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    pairs = list(run.latency.buckets())
    return np.array([value / 1e6 for value, _ in pairs]), np.array([count for _, count in pairs], np.int64)


def _limits(axes: Any, limits: dict[str, float], *, across: bool) -> None:
    for name, value in limits.items():
        line = axes.axhline if across else axes.axvline
        line(value, color=_RED, linewidth=1, linestyle="--", label=f"{name} {value:g} ms")
    if limits:
        axes.legend(fontsize=8, loc="best")


@contextmanager
def _axes(size: tuple[float, float] = _SIZE, **panels: Any) -> Iterator[tuple[Any, Any]]:
    """A figure with axes, or with several as `panels` says.

    Without pyplot: nothing global is touched, no window system is looked for.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(**panels)


def _svg(figure: Any) -> str:
    """The <svg> element alone. Its ids are made distinct, since many stand on one page."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    number = hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r'((?:id="|href="#|url\(#))', rf"\g<1>f{number}-", text)
