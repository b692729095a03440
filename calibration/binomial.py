"""What k of n says about the rate behind it: exact (Clopper-Pearson) one-sided bounds."""

from __future__ import annotations

import math

CONFIDENCE = 0.95
_BISECTIONS = 60


def rate_upper_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The rate at which as few as `events` of `trials` have probability 1 − `confidence`.

    1 where all are events. With no event this is 1 − (1 − confidence)^(1/trials), about 3/trials.
    """
    if events >= trials:
        return 1.0
    low, high = events / trials, 1.0
    for _ in range(_BISECTIONS):
        rate = (low + high) / 2
        if _at_most(events, trials, rate) > 1 - confidence:
            low = rate
        else:
            high = rate
    return high


def rate_lower_bound(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The rate at which as many as `events` of `trials` have probability 1 − `confidence`; 0 for none."""
    return 1.0 - rate_upper_bound(trials - events, trials, confidence)


def _at_most(events: int, trials: int, rate: float) -> float:
    """Probability of at most `events` in `trials`, 0 < rate < 1."""
    log_all = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            log_all
            - math.lgamma(i + 1)
            - math.lgamma(trials - i + 1)
            + i * math.log(rate)
            + (trials - i) * math.log1p(-rate)
        )
        for i in range(events + 1)
    )
