"""Untimed queries until the service time no longer falls: detected, not guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SETTLED = 0.97  # of the window before: what still falls by more than 3 % is still warming up


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """When the warm-up is over.

    It is, when the medians of two windows in a row are hardly below that of the window before.

    Attributes:
        window: queries whose median is compared.
        min_duration_ns: at least this long.
        max_queries: 0 = no limit. Settled or not, it ends here.
        max_duration_ns: 0 = no limit. Settled or not, it ends here.
    """

    window: int = 10
    min_duration_ns: int = 500_000_000
    max_queries: int = 0
    max_duration_ns: int = 30_000_000_000

    def settled(self, service_ns: Sequence[int]) -> bool:
        """Whether the last three whole windows of these service times, in ns, have stopped falling."""
        whole = len(service_ns) - len(service_ns) % self.window
        if len(service_ns) != whole or whole < 3 * self.window:
            return False
        a, b, c = (
            median(service_ns[begin : begin + self.window])
            for begin in range(whole - 3 * self.window, whole, self.window)
        )
        return min(b, c) >= SETTLED * a

    def over(self, service_ns: Sequence[int], elapsed_ns: int) -> bool | None:
        """Whether to stop: True settled, False given up, None go on."""
        if elapsed_ns >= self.min_duration_ns and self.settled(service_ns):
            return True
        given_up = 0 < self.max_queries <= len(service_ns) or 0 < self.max_duration_ns <= elapsed_ns
        return False if given_up else None


WARMUP = Warmup()
