"""Whether something became slower: against another bundle measured in turn, or an earlier result file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgead.benchmarks.order_statistics import interval_ranks, rank
from edgead.benchmarks.report import VERSION, BenchReport
from edgead.benchmarks.run import Run
from edgead.benchmarks.targets import Judgement, Verdict, overall
from edgead.errors import InputError, UsageError

TOLERANCE = 0.05
_NEEDED = ("scenario", "target", "rate", "latency_ms", "latency_interval_ms", "environment")
_MACHINE = ("cpu", "usable_cores", "cgroup_cores", "governor", "system", "kernels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """New ÷ old of one percentile: above 1 is slower. `low` and `high` bound it at 99 %, None = no bound."""

    ratio: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """New beside old.

    Attributes:
        against: the file or bundle.
        kind: ``result``: a file of an earlier run. ``bundle``: measured in turn with this one.
        tolerance: slower by up to this share is no regression.
        ratios: by percentile; ``paired p50`` is the median of the ratios of single queries.
        differences: what was not the same for both, apart from what is compared.
    """

    against: str
    kind: str
    tolerance: float
    ratios: dict[str, Ratio]
    differences: tuple[str, ...]


def read_result(path: Path) -> dict[str, Any]:
    """What `edgead bench --json` wrote, now or in an earlier version.

    Raises:
        InputError: not to be read, no result, or of a version that this edgead does not know.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(
            f"{path} is no result of a bench ({err}); write one with: edgead bench … --json > FILE"
        ) from err
    version = found.get("report_version") if isinstance(found, dict) else None
    if not isinstance(version, int) or not all(name in found for name in _NEEDED):
        raise InputError(f"{path} is no result of a bench; write one with: edgead bench … --json > FILE")
    if not 1 <= version <= VERSION:
        raise InputError(
            f"{path} has report version {version}, this edgead reads 1 to {VERSION}; measure again with it"
        )
    return dict(found)


def with_result(
    report: BenchReport, earlier: Mapping[str, Any], name: str, tolerance: float = TOLERANCE
) -> BenchReport:
    """`report`, compared with an earlier result.

    Slower means: the whole interval of a percentile lies above the whole interval of the earlier one, by more
    than the tolerance.

    Raises:
        UsageError: another scenario or rate.
    """
    for field in ("scenario", "rate"):
        if earlier[field] != getattr(report, field):
            raise UsageError(
                f"{name} was measured with {field} {earlier[field]}, this run with {getattr(report, field)}; "
                "they cannot be compared"
            )
    ratios = {}
    for percentile, new in report.latency_ms.items():
        old = earlier["latency_ms"].get(percentile)
        if percentile == "max" or not new or not old:
            continue
        low, high = report.latency_interval_ms.get(percentile, (None, None))
        before_low, before_high = earlier["latency_interval_ms"].get(percentile, (None, None))
        ratios[percentile] = Ratio(
            ratio=new / old,
            low=None if low is None or not before_high else low / before_high,
            high=None if high is None or not before_low else high / before_low,
        )
    return _judged(report, name, "result", ratios, _differences(report, earlier), tolerance)


def with_run(report: BenchReport, new: Run, old: Run, name: str, tolerance: float = TOLERANCE) -> BenchReport:
    """`report`, which is about `new`, compared with a run that was measured in turn with it."""
    n = min(len(new), len(old))
    ratios = {}
    if n:
        pairs = np.sort(new.latency_ns[:n] / np.maximum(old.latency_ns[:n], 1))
        low, high = interval_ranks(0.5, n)
        ratios["paired p50"] = Ratio(
            ratio=float(pairs[rank(0.5, n) - 1]),
            low=float(pairs[low - 1]) if low >= 1 else None,
            high=float(pairs[high - 1]) if high <= n else None,
        )
        sides = np.sort(new.latency_ns), np.maximum(np.sort(old.latency_ns), 1)
        for percentile, p in (("p90", 0.9), ("p99", 0.99)):
            low, high = interval_ranks(p, n)
            if low >= 1 and high <= n:
                ratios[percentile] = Ratio(
                    ratio=float(sides[0][rank(p, n) - 1] / sides[1][rank(p, n) - 1]),
                    low=float(sides[0][low - 1] / sides[1][high - 1]),
                    high=float(sides[0][high - 1] / sides[1][low - 1]),
                )
    return _judged(report, name, "bundle", ratios, (), tolerance)


def _judged(
    report: BenchReport,
    name: str,
    kind: str,
    ratios: dict[str, Ratio],
    differences: tuple[str, ...],
    tolerance: float,
) -> BenchReport:
    comparison = Comparison(
        against=name, kind=kind, tolerance=tolerance, ratios=ratios, differences=differences
    )
    judgements = (*report.judgements, _judge(comparison, complete=report.complete))
    return replace(
        report,
        verdict=overall(list(judgements)),
        judgements=judgements,
        comparison=asdict(comparison),
        warnings=(*report.warnings, *(f"not the same in {name}: {what}" for what in differences)),
    )


def _judge(comparison: Comparison, *, complete: bool) -> Judgement:
    """Fail where any percentile is surely slower; pass where the median surely is not, and nothing is."""
    most = 1.0 + comparison.tolerance
    target = f"not slower than {comparison.against} by more than {100 * comparison.tolerance:g} %"
    slower = [
        f"{name} by {100 * (ratio.ratio - 1):.3g} %"
        for name, ratio in comparison.ratios.items()
        if ratio.low is not None and ratio.low > most
    ]
    reason = "new ÷ old: " + (
        ", ".join(
            f"{name} {ratio.ratio:.3f} ({_bound(ratio.low)} to {_bound(ratio.high)})"
            for name, ratio in comparison.ratios.items()
        )
        or "no percentile that both carry"
    )
    verdict: Verdict = "inconclusive"
    advice = "measure both with more --queries"
    middle = comparison.ratios.get("paired p50", comparison.ratios.get("p50"))
    if slower:
        verdict, advice = "fail", "slower: " + ", ".join(slower)
    elif complete and middle is not None and middle.high is not None and middle.high <= most:
        verdict, advice = "pass", ""
    return Judgement(target=target, verdict=verdict, reason=reason, advice=advice)


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _differences(report: BenchReport, earlier: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes the ratio one of machines and versions rather than of bundles."""
    new, old = asdict(report.environment), earlier["environment"]
    found = [
        f"{name} {old.get(name)} then, {new[name]} now" for name in _MACHINE if old.get(name) != new[name]
    ]
    packages = old.get("packages", {})
    found += [
        f"{name} {packages[name]} then, {version} now"
        for name, version in new["packages"].items()
        if name in packages and packages[name] != version
    ]
    for field in ("target", "runtime", "threads", "images"):
        if earlier.get(field) != getattr(report, field):
            found.append(f"{field} {earlier.get(field)} then, {getattr(report, field)} now")
    return tuple(found)
