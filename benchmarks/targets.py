"""Latency targets and the verdict on them: pass, fail, or inconclusive, at 99 % confidence.

A run proves a target, disproves it, or does neither: too few queries, or too near the limit. No average is
taken over the verdict's doubt.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from edgead.benchmarks.order_statistics import CONFIDENCE, binomial_cdf, samples_needed
from edgead.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.benchmarks.scenarios import Run

Verdict = Literal["pass", "fail", "inconclusive", "none"]

_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_DURATION = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zµμ]*)\s*", re.IGNORECASE)
_BLOCKS = 20


def parse_duration(text: str, option: str) -> int:
    """Read ``5ms``, ``800us`` or ``0.01s`` as nanoseconds.

    Args:
        text: a positive decimal number and its unit.
        option: whose value it is, for the message.

    Raises:
        UsageError: no unit, an unknown unit, or not between 1 ns and 1 h.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{option} {text!r} is not a duration; write for instance {option} 5ms")
    number, unit = match.group(1), match.group(2).lower()
    if not unit:
        raise UsageError(f"{option} {text!r} has no unit; milliseconds are written {option} {number}ms")
    if unit not in _UNIT_NS:
        raise UsageError(f"{option} {text!r}: unit {unit!r} is unknown; use ns, us, ms or s")
    duration = Decimal(number) * _UNIT_NS[unit]
    if not 1 <= duration <= 3_600 * 10**9:
        raise UsageError(f"{option} {text!r} is out of range; give a duration between 1ns and 3600s")
    return int(duration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What the line needs; None = not asked for.

    Attributes:
        fps: images per second: the arrival rate in `paced`, else the required throughput.
        p99_ns: 99 of 100 images are answered within this.
        deadline_ns: every image is.
    """

    fps: float | None = None
    p99_ns: int | None = None
    deadline_ns: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise UsageError(f"--fps {self.fps:g} is not a rate; give images per second above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a run says of one target.

    Attributes:
        target: the option and its value.
        verdict: pass, fail or inconclusive.
        reason: the counts that it rests on.
        advice: what to do about it; empty for a pass.
    """

    target: str
    verdict: Verdict
    reason: str
    advice: str = ""


def judge(run: Run, targets: Targets) -> list[Judgement]:
    """Judge each target that was asked for. An interrupted run may fail a target, but never passes one."""
    judgements = []
    if targets.fps is not None:
        judgements.append(_judge_rate(run.service_ns, targets.fps))
    if targets.p99_ns is not None:
        judgements.append(_judge_p99(run.latency_ns, targets.p99_ns))
    if targets.deadline_ns is not None:
        judgements.append(_judge_deadline(run.latency_ns, targets.deadline_ns))
    return judgements if run.complete else [_partial(judgement) for judgement in judgements]


def overall(judgements: list[Judgement]) -> Verdict:
    """The worst of them; none where nothing was asked."""
    verdicts = {judgement.verdict for judgement in judgements}
    ordered: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    return next((verdict for verdict in ordered if verdict in verdicts), "none")


def exceedances(durations_ns: npt.NDArray[np.int64], limit_ns: int) -> int:
    """How many durations are over the limit; one that equals it is within."""
    return int((durations_ns > limit_ns).sum())


def proven_p99(latency_ns: npt.NDArray[np.int64]) -> int | None:
    """The smallest p99 target in ns that these latencies pass, None where they are too few for any."""
    import numpy as np

    n = len(latency_ns)
    allowed = bisect_left(range(n), True, key=lambda over: binomial_cdf(over, n, 0.01) > 1.0 - CONFIDENCE)
    return int(np.sort(latency_ns)[n - allowed]) if allowed else None


def _judge_p99(latency_ns: npt.NDArray[np.int64], limit_ns: int) -> Judgement:
    n, over = len(latency_ns), exceedances(latency_ns, limit_ns)
    target = f"p99 ≤ {_ms(limit_ns)}"
    reason = f"{over} of {n} queries over {_ms(limit_ns)}"
    doubt = 1.0 - CONFIDENCE
    if n and binomial_cdf(over, n, 0.01) <= doubt:
        return Judgement(target=target, verdict="pass", reason=reason)
    # P(X ≥ over) when exactly 1 % are over: this small only where more than 1 % are.
    if over and 1.0 - binomial_cdf(over - 1, n, 0.01) <= doubt:
        proven = proven_p99(latency_ns)
        advice = f"the run proves a p99 of {_ms(proven)}" if proven else "no p99 is proven by so few queries"
        return Judgement(target=target, verdict="fail", reason=reason, advice=advice)
    needed = samples_needed(0.99, over)
    advice = (
        f"with {over} over the limit, {needed} queries carry a p99; measure more with: --queries {2 * needed}"
    )
    if over > 0.01 * n:
        advice = f"the p99 is too near the limit to say; measure more with: --queries {4 * max(n, needed)}"
    return Judgement(target=target, verdict="inconclusive", reason=reason, advice=advice)


def _judge_deadline(latency_ns: npt.NDArray[np.int64], limit_ns: int) -> Judgement:
    n, misses = len(latency_ns), exceedances(latency_ns, limit_ns)
    target = f"deadline {_ms(limit_ns)}"
    if misses:
        advice = f"the slowest query took {_ms(int(latency_ns.max()))}"
        reason = f"{misses} of {n} queries missed it"
        return Judgement(target=target, verdict="fail", reason=reason, advice=advice)
    needed = samples_needed(0.99)
    if n < needed:
        reason = f"no miss, in {n} queries only"
        advice = f"less than 1 miss in 100 takes {needed} queries to show; measure with: --queries {needed}"
        return Judgement(target=target, verdict="inconclusive", reason=reason, advice=advice)
    bound = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / n)
    reason = f"no miss in {n} queries: fewer than 1 in {math.floor(1 / bound)} at 99 % confidence"
    return Judgement(target=target, verdict="pass", reason=reason)


def _judge_rate(service_ns: npt.NDArray[np.int64], fps: float) -> Judgement:
    """Sign test over blocks of consecutive queries, which need not be independent inside a block."""
    import numpy as np

    n = len(service_ns)
    target = f"{fps:g} images/s"
    if n == 0:
        return Judgement(target=target, verdict="inconclusive", reason="no query", advice="measure again")
    rate = n / (max(int(service_ns.sum()), 1) / 1e9)
    blocks = [
        len(block) / (max(int(block.sum()), 1) / 1e9) for block in np.array_split(service_ns, min(n, _BLOCKS))
    ]
    fast = sum(block >= fps for block in blocks)
    reason = f"{rate:.4g} images/s; {fast} of {len(blocks)} stretches of the run reach {fps:g}"
    doubt = 1.0 - CONFIDENCE
    if rate >= fps and 1.0 - binomial_cdf(fast - 1, len(blocks), 0.5) <= doubt:
        return Judgement(target=target, verdict="pass", reason=reason)
    if rate < fps and binomial_cdf(fast, len(blocks), 0.5) <= doubt:
        advice = f"a query takes {1e3 / rate:.4g} ms and may take {1e3 / fps:.4g} ms at this rate"
        return Judgement(target=target, verdict="fail", reason=reason, advice=advice)
    advice = f"the rate is too near the target to say; measure more with: --queries {4 * max(n, _BLOCKS)}"
    return Judgement(target=target, verdict="inconclusive", reason=reason, advice=advice)


def _partial(judgement: Judgement) -> Judgement:
    if judgement.verdict != "pass":
        return judgement
    return Judgement(
        target=judgement.target,
        verdict="inconclusive",
        reason=f"interrupted; so far {judgement.reason}",
        advice="let the run end",
    )


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:.4g} ms"
