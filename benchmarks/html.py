"""The report as one HTML file that needs no network and prints well: the verdict first."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import InputError, OutputError, RuntimeMissingError

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport
    from edgead.benchmarks.run import Run
    from edgead.benchmarks.soak import Soak
    from edgead.benchmarks.targets import Targets

_VERDICTS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE", "none": "no target was set"}

_STYLE = """
:root { --ink: #1c2430; --faint: #5d6875; --line: #d9dee4; --pass: #1d6b3c; --fail: #a8201a;
  --inconclusive: #8a5a00; --none: #47525f; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
.faint { color: var(--faint); } code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
.verdict { color: #fff; border-radius: 6px; padding: 14px 18px; margin: 16px 0; }
.verdict b { font-size: 22px; letter-spacing: .04em; } .verdict p { margin: 4px 0 0; }
.pass { background: var(--pass); } .fail { background: var(--fail); }
.inconclusive { background: var(--inconclusive); } .none { background: var(--none); }
.mark { color: #fff; border-radius: 3px; padding: 1px 7px; font-size: 12px; white-space: nowrap; }
.warning { border-left: 4px solid #c98a00; background: #fff8e6; padding: 6px 12px; margin: 6px 0; }
table { border-collapse: collapse; width: 100%; margin: 8px 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 4px 8px; text-align: right; vertical-align: top; }
th { color: var(--faint); font-weight: 600; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
figure { margin: 12px 0; break-inside: avoid; }
figure svg, figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--faint); font-size: 13px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 20px; }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
section { break-before: auto; } nav a { margin-right: 14px; }
@media (max-width: 700px) { .pair { grid-template-columns: 1fr; } body { padding: 12px; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; }
  .verdict, .mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  section { break-before: page; } section:first-of-type { break-before: auto; } @page { margin: 14mm; } }
"""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Thumbnail:
    """An image as the bundle judges it.

    Attributes:
        jpeg: the picture's file.
        caption: a line below it.
    """

    jpeg: bytes
    caption: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """A report, and what its pictures are drawn from."""

    report: BenchReport
    run: Run | Soak
    targets: Targets
    thumbnails: tuple[Thumbnail, ...] = ()


def check_writable(path: Path) -> Path:
    """Find out before a long run that the report could not be made after it.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
        OutputError: the folder is missing, or `path` is one.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as err:
        raise RuntimeMissingError(
            "the HTML report needs the package matplotlib; pip install 'edgead[bench]'"
        ) from err
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OutputError(f"{path} cannot be written; name a file in a folder that exists")
    return path


def read_accuracy(path: Path) -> dict[str, float]:
    """Target → image AUROC, out of what `edgead verify --json` printed.

    Raises:
        InputError: it is something else.
    """
    try:
        targets = json.loads(path.read_text(encoding="utf-8"))["targets"]
        return {str(name): float(found["image_auroc"]) for name, found in targets.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(
            f"{path} is no result of a verification ({err}); write one with: edgead verify … --json > FILE"
        ) from err


def write(path: Path, measured: Sequence[Measured], accuracy: Mapping[str, float] | None = None) -> None:
    """Write the report.

    Args:
        path: the file.
        measured: at least one; each becomes a section.
        accuracy: target → image AUROC, for the picture of accuracy over latency.

    Raises:
        OutputError: the file cannot be written.
    """
    text = render(measured, accuracy)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise OutputError(f"{path} cannot be written: {err.strerror}") from err


def render(measured: Sequence[Measured], accuracy: Mapping[str, float] | None = None) -> str:
    """The page; see `write`."""
    from edgead.benchmarks import figures

    first = measured[0].report
    title = f"{first.bundle or first.target}: latency"
    parts = [f"<h1>{_text(title)}</h1>", f'<p class="faint">{_machine(first)}</p>']
    if len(measured) == 1:
        parts += [_verdict(first)]
    else:
        parts += [_overview(measured)]
    first_of = {one.report.target: one.report for one in reversed(measured)}
    points = [(report, accuracy[name]) for name, report in first_of.items() if accuracy and name in accuracy]
    if points:
        caption = f"Image AUROC over the latency in {points[0][0].scenario}; up and left is better."
        parts.append(figure(figures.accuracy(points), caption))
    for number, one in enumerate(measured):
        parts.append(f'<section id="s{number}">')
        if len(measured) > 1:
            parts += [f"<h2>{_text(_name(one.report))}</h2>", _verdict(one.report)]
        parts += [*_section(one), "</section>"]
    thumbnails = next((one.thumbnails for one in measured if one.thumbnails), ())
    if thumbnails:
        pictures = "".join(_picture(thumbnail) for thumbnail in thumbnails)
        parts.append(f'<section><h2>What it sees</h2><div class="thumbs">{pictures}</div></section>')
    parts.append(_environment(first))
    return page(title, parts)


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page out of HTML parts, in the reports' style."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{_text(title)}</title><style>{_STYLE}</style></head>\n'
        "<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _section(one: Measured) -> list[str]:
    from edgead.benchmarks import figures

    report, run = one.report, one.run
    parts = [f'<div class="warning">{_text(warning)}</div>' for warning in report.warnings]
    parts += ["<h3>Figures in ms</h3>", _percentiles(report)]
    if report.groups:
        parts += ["<h3>Each of them</h3>", _groups(report)]
    if report.soak is not None:
        parts.append(
            f"<p>Memory: {report.soak.rss_slope_mb_per_hour:+.3g} MB per hour, "
            f"{'and it rises beyond doubt' if report.soak.rss_rises else 'no leak shown'}. "
            f"p99: {report.soak.p99_slope_ms_per_hour:+.3g} ms per hour, "
            f"{'and it rises beyond doubt' if report.soak.p99_rises else 'no rise shown'}.</p>"
        )
    if not len(run):
        return [*parts, "<p>Nothing was measured.</p>"]
    pictures = figures.of(run, one.targets, report)
    parts.append('<div class="pair">')
    parts += [figure(svg, caption) for caption, svg in pictures.items()]
    parts.append("</div>")
    return parts


def _verdict(report: BenchReport) -> str:
    lines = "".join(
        f"<p><b style='font-size:inherit'>{_VERDICTS[j.verdict]}</b> {_text(j.target)}: {_text(j.reason)}"
        f"{'; ' + _text(j.advice) if j.advice else ''}</p>"
        for j in report.judgements
    )
    partial = "" if report.complete else "<p>Interrupted: this is the part before.</p>"
    return (
        f'<div class="verdict {report.verdict}"><b>{_VERDICTS[report.verdict]}</b> '
        f"{_text(_name(report))}{lines}{partial}</div>"
    )


def _name(report: BenchReport) -> str:
    rate = "" if report.rate is None else f" at {report.rate:g} images/s"
    streams = "" if report.streams == 1 else f", {report.streams} streams"
    return f"{report.target}, {report.scenario}{rate}{streams}"


def _overview(measured: Sequence[Measured]) -> str:
    rows = []
    for number, one in enumerate(measured):
        report = one.report
        cells = "".join(f"<td>{_ms(value)}</td>" for value in report.latency_ms.values())
        rows.append(
            f'<tr><td><span class="mark {report.verdict}">{_VERDICTS[report.verdict]}</span></td>'
            f'<td class="text"><a href="#s{number}">{_text(_name(report))}</a></td>{cells}'
            f"<td>{report.fps:.4g}</td><td>{report.queries}</td><td>{report.dropped}</td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in measured[0].report.latency_ms)
    return (
        f'<table><tr><th></th><th class="text">latency in ms</th>{head}<th>images/s</th><th>queries</th>'
        f"<th>dropped</th></tr>{''.join(rows)}</table>"
    )


def _percentiles(report: BenchReport) -> str:
    rows = {"latency (planned start → answer)": report.latency_ms}
    if report.service_ms != report.latency_ms:
        rows["service time (actual start → answer)"] = report.service_ms
    rows |= {f"– {name}": stage for name, stage in report.stages_ms.items()}
    if report.tile_ms is not None:
        rows[f"– engine, each of {report.tiles} tiles"] = report.tile_ms
    head = "".join(f"<th>{name}</th>" for name in report.latency_ms)
    body = [_row(name, list(values.values())) for name, values in rows.items()]
    bounds = [f"{_ms(low)} to {_ms(high)}" for low, high in report.latency_interval_ms.values()]
    if bounds:
        cells = "".join(f"<td>{bound}</td>" for bound in bounds)
        body.insert(1, f"<tr class='faint'><td>– 99 % interval of the latency</td>{cells}<td></td></tr>")
    note = (
        f"{report.queries} queries on {report.images} images after {report.warmup_queries} of warm-up, "
        f"{report.fps:.4g} answered per second, driven by {report.runtime}, "
        f"{report.threads or 'the engine’s choice of'} threads. – = the queries do not carry this figure."
    )
    return f"<table><tr><th></th>{head}</tr>{''.join(body)}</table><p class='faint'>{_text(note)}</p>"


def _groups(report: BenchReport) -> str:
    head = "".join(f"<th>{name}</th>" for name in report.latency_ms)
    rows = [
        f"<tr><td>{_text(group.name)}</td><td>{group.queries}</td>"
        + "".join(f"<td>{_ms(value)}</td>" for value in group.latency_ms.values())
        + "</tr>"
        for group in report.groups
    ]
    return f"<table><tr><th></th><th>queries</th>{head}</tr>{''.join(rows)}</table>"


def _row(name: str, values: Sequence[float | None]) -> str:
    return f"<tr><td>{_text(name)}</td>{''.join(f'<td>{_ms(value)}</td>' for value in values)}</tr>"


def _environment(report: BenchReport) -> str:
    where = report.environment
    temperature = "" if where.temperature_c is None else f"{where.temperature_c:.0f} °C"
    facts = {
        "processor": f"{where.cpu}; {where.usable_cores} of {where.logical_cores} logical cores usable",
        "instruction sets": " ".join(where.cpu_flags),
        "control group": "" if where.cgroup_cores is None else f"{where.cgroup_cores:g} cores",
        "governor": where.governor or "",
        "load before": "" if where.load_1min is None else f"{where.load_1min:.2f}",
        "temperature before": temperature,
        "GPU": ", ".join(where.gpu) + (f", driver {where.gpu_driver}" if where.gpu_driver else ""),
        "system": f"{where.system}, Python {where.python}",
        "edgead": f"{where.edgead}, {where.kernels or 'no'} kernels",
        "packages": ", ".join(f"{name} {version}" for name, version in where.packages.items()),
        "measured": where.time_utc,
    }
    rows = "".join(
        f'<tr><td>{name}</td><td class="text">{_text(value)}</td></tr>'
        for name, value in facts.items()
        if value
    )
    return f"<section><h2>Where</h2><table>{rows}</table></section>"


def _machine(report: BenchReport) -> str:
    where = report.environment
    return _text(
        f"{where.cpu}, {where.usable_cores} cores, {where.system}, edgead {where.edgead}, {where.time_utc}"
    )


def figure(svg: str, caption: str) -> str:
    """A picture with a line below it."""
    return f"<figure>{svg}<figcaption>{_text(caption)}</figcaption></figure>"


def _picture(thumbnail: Thumbnail) -> str:
    data = base64.b64encode(thumbnail.jpeg).decode("ascii")
    caption = _text(thumbnail.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
