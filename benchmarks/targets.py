"""Latency targets and the verdict on them: pass, fail, or inconclusive, at 99 % confidence.

A run proves a target, disproves it, or does neither: too few queries, or too near the limit. No average is
taken over the verdict's doubt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from edgead.benchmarks.order_statistics import CONFIDENCE, binomial_cdf, samples_needed
from edgead.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.benchmarks.run import Evidence

Verdict = Literal["pass", "fail", "inconclusive", "none"]

_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_DURATION = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zµμ]*)\s*", re.IGNORECASE)
_BLOCKS = 20
DOUBT = 1.0 - CONFIDENCE


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
        fps: images per second: the arrival rate where arrivals are planned, else the required throughput.
        p99_ns: 99 of 100 images are answered within this.
        p999_ns: 999 of 1,000 are.
        deadline_ns: every image is.
    """

    fps: float | None = None
    p99_ns: int | None = None
    p999_ns: int | None = None
    deadline_ns: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise UsageError(f"--fps {self.fps:g} is not a rate; give images per second above 0")

    @property
    def limits_ns(self) -> tuple[int, ...]:
        """Every latency that counts."""
        asked = (self.p99_ns, self.p999_ns, self.deadline_ns)
        return tuple(limit for limit in asked if limit is not None)


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


def judge(evidence: Evidence, targets: Targets, doubt: float = DOUBT) -> list[Judgement]:
    """Judge each target that was asked for. An interrupted run may fail a target, but never passes one.

    Args:
        evidence: the run. What it dropped counts as over every limit.
        targets: what was asked for.
        doubt: the probability of a wrong verdict, at most; smaller where it is one look of several.
    """
    judgements = []
    if targets.fps is not None:
        judgements.append(_judge_rate(evidence, targets.fps, doubt))
    for name, limit_ns, percentile in (("p99", targets.p99_ns, 0.99), ("p99.9", targets.p999_ns, 0.999)):
        if limit_ns is not None:
            judgements.append(_judge_percentile(evidence, name, percentile, limit_ns, doubt))
    if targets.deadline_ns is not None:
        judgements.append(_judge_deadline(evidence, targets.deadline_ns))
    return judgements if evidence.complete else [_partial(judgement) for judgement in judgements]


def overall(judgements: list[Judgement]) -> Verdict:
    """The worst of them; none where nothing was asked."""
    verdicts = {judgement.verdict for judgement in judgements}
    ordered: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    return next((verdict for verdict in ordered if verdict in verdicts), "none")


class EarlyStopping:
    """Ends a run as soon as its verdict is certain.

    Looking k times at a growing sample errs up to k times as often as looking once. So the k-th look allows
    1/2^k of the doubt, and all looks together no more than all of it. Judge with `doubt` in the end, too.
    """

    def __init__(self, targets: Targets, evidence: Callable[[npt.NDArray[np.int64]], Evidence]) -> None:
        self._targets, self._evidence = targets, evidence
        self._looks = 0
        self.decided = False

    def __call__(self, times: npt.NDArray[np.int64]) -> bool:
        """Whether the rows so far decide every target, or fail one."""
        self._looks += 1
        verdict = overall(judge(self._evidence(times), self._targets, DOUBT / 2**self._looks))
        self.decided = verdict in ("pass", "fail")
        return self.decided

    @property
    def doubt(self) -> float:
        """For the verdict: of the look that decided, or of the next one."""
        return DOUBT / float(2 ** (self._looks + int(not self.decided)))


def _judge_percentile(
    evidence: Evidence, name: str, percentile: float, limit_ns: int, doubt: float
) -> Judgement:
    n, over = len(evidence) + evidence.dropped, evidence.over(limit_ns) + evidence.dropped
    share = 1.0 - percentile
    target = f"{name} ≤ {_ms(limit_ns)}"
    reason = f"{over} of {n} queries over {_ms(limit_ns)}"
    if evidence.dropped:
        reason += f", {evidence.dropped} of them dropped"
    if n and binomial_cdf(over, n, share) <= doubt:
        return Judgement(target=target, verdict="pass", reason=reason)
    # P(X ≥ over) when exactly that share is over: this small only where more are.
    if over and 1.0 - binomial_cdf(over - 1, n, share) <= doubt:
        proven = evidence.proven(percentile)
        advice = f"the run proves a {name} of {_ms(proven)}" if proven else f"no {name} is proven by this run"
        return Judgement(target=target, verdict="fail", reason=reason, advice=advice)
    needed = samples_needed(percentile, over, 1.0 - doubt)
    advice = f"with {over} over the limit, {needed} queries carry a {name}"
    advice += f"; measure more with: --queries {2 * needed}"
    if over > share * n:
        advice = f"the {name} is too near the limit to say; measure more with: --queries {4 * max(n, needed)}"
    return Judgement(target=target, verdict="inconclusive", reason=reason, advice=advice)


def _judge_deadline(evidence: Evidence, limit_ns: int) -> Judgement:
    n, misses = len(evidence) + evidence.dropped, evidence.over(limit_ns) + evidence.dropped
    target = f"deadline {_ms(limit_ns)}"
    if misses:
        advice = f"the slowest query took {_ms(evidence.slowest_ns)}"
        if evidence.dropped:
            advice += f", and {evidence.dropped} were dropped"
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


def _judge_rate(evidence: Evidence, fps: float, doubt: float) -> Judgement:
    """Sign test over blocks of consecutive queries, which need not be independent inside a block."""
    target = f"{fps:g} images/s"
    n = len(evidence)
    if n == 0:
        return Judgement(target=target, verdict="inconclusive", reason="no query", advice="measure again")
    rate, blocks = evidence.throughput(), evidence.throughputs(_BLOCKS)
    fast = sum(block >= fps for block in blocks)
    reason = f"{rate:.4g} images/s; {fast} of {len(blocks)} stretches of the run reach {fps:g}"
    if evidence.dropped:
        reason = f"{evidence.dropped} of {n + evidence.dropped} arrivals found the queue full; {reason}"
    if not evidence.dropped and rate >= fps and 1.0 - binomial_cdf(fast - 1, len(blocks), 0.5) <= doubt:
        return Judgement(target=target, verdict="pass", reason=reason)
    if evidence.dropped or (rate < fps and binomial_cdf(fast, len(blocks), 0.5) <= doubt):
        advice = f"a query takes {1e3 / rate:.4g} ms and may take {1e3 / fps:.4g} ms at this rate"
        if rate < fps:
            advice += f": {100 * (fps / rate - 1):.3g} % more images come than can be answered"
        return Judgement(target=target, verdict="fail", reason=reason, advice=advice)
    advice = "the rate is too near the target, or the run too short, to say"
    advice += f"; measure more with: --queries {4 * max(n, _BLOCKS)}"
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
