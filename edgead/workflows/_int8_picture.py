"""The trade of an INT8 repair as a picture: where the error comes from, and what mending it costs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.calibration.sensitivity import Repair

_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#5d6875"
_MOST = 24  # layers that are shown


def drawn(repair: Repair, title: str) -> str | None:
    """An SVG, or None where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    returned = set(repair.steps[-1].returned)
    shown = sorted(repair.layers, key=lambda layer: layer.error, reverse=True)[:_MOST]
    style = {"svg.fonttype": "none", "svg.hashsalt": "edgead", "font.size": 9, "legend.frameon": False}
    with matplotlib.rc_context(style):
        height = max(3.2, 0.19 * len(shown) + 1.2)
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, height), width_ratios=(3, 2))
        try:
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
            for axes in (left, right):
                axes.spines[["top", "right"]].set_visible(False)
                axes.grid(axis="x" if axes is left else "both", color="#e6e9ed")
                axes.set_axisbelow(True)
            figure.suptitle(title)
            figure.tight_layout()
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(figure)
    return stream.getvalue()
