"""What else ran on the machine during a run: the difference of two looks at /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_BUSY_SHARE = 0.1  # of the usable cores
_IDLE, _IOWAIT, _LAST = 3, 4, 8  # columns of /proc/stat; guest time is already in user time


class Activity:
    """Begins to watch when it is made.

    Args:
        proc: where /proc lies.
        own_s: CPU seconds of this process until now.
    """

    def __init__(self, proc: Path = Path("/proc"), own_s: Callable[[], float] | None = None) -> None:
        self._proc = proc
        self._own_s = own_s or (lambda: sum(os.times()[:2]))
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._before, self._own_before = self._ticks(), self._own_s()

    def others_cores(self) -> float | None:
        """Cores that others (the hypervisor included) took of those usable here; None = not to be read."""
        after, own = self._ticks(), self._own_s() - self._own_before
        if self._before is None or after is None:
            return None
        busy, total = (now - then for now, then in zip(after, self._before, strict=True))
        if total <= 0:
            return None
        seconds = total / os.sysconf("SC_CLK_TCK") / len(self._cores)
        return max(0.0, (busy / total) * len(self._cores) - own / seconds)

    def warnings(self) -> list[str]:
        """Whether others took so much that the figures say more about them."""
        others = self.others_cores()
        if others is None or others <= _BUSY_SHARE * len(self._cores):
            return []
        return [
            f"the machine was busy: other processes took {others:.2f} of {len(self._cores)} cores during the "
            "run; figures are too high"
        ]

    def _ticks(self) -> tuple[int, int] | None:
        """(busy, all) clock ticks of the usable cores since boot."""
        try:
            lines = (self._proc / "stat").read_text().splitlines()
        except OSError:
            return None
        busy = total = 0
        for line in lines:
            name, _, rest = line.partition(" ")
            if name.removeprefix("cpu") in {str(core) for core in self._cores}:
                ticks = [int(field) for field in rest.split()[:_LAST]]
                total += sum(ticks)
                busy += sum(ticks) - sum(ticks[_IDLE : _IOWAIT + 1])
        return (busy, total) if total else None
