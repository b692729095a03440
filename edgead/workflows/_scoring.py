"""An export's engines: what they say of images, and how long one takes beside another on this machine."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.exporters._base import CompiledTarget
from edgead.exporters._half_rounded import rounded
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Progress
from edgead.runtimes._base import Runtime
from edgead.runtimes._pipeline import EngineScorer
from edgead.runtimes._registry import runtime_for
from edgead.runtimes._tiled import tiled
from edgead.runtimes._typed_graph import TypedGraphRuntime
from edgead.tiling import Tiling
from edgead.types import Rest, Target
from edgead.workflows._sides import Side, check_finite, score_side

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

_ROUNDS, _SECONDS = 40, 4.0


def times_as_long(
    first: Runtime,
    second: Runtime,
    pixels: Pixels,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median of the ratio of an image's times, `first` over `second`, who take turns.

    One round warms up; then up to 40 rounds, or as many as begin within 4 seconds, at least one.

    Args:
        first: open.
        second: open, of the same input shape.
        pixels: (N, H, W, 3) uint8 RGB, N ≥ 1, each what the engines take.
        clock: gives seconds.
    """
    ratios: list[float] = []
    begin = clock()
    for turn in range(-1, _ROUNDS):
        if turn > 0 and clock() - begin > _SECONDS:
            break
        image = pixels[turn % len(pixels)][None]
        spent = []
        for engine in (first, second):
            start = clock()
            engine.infer(image)
            spent.append(clock() - start)
        if turn >= 0:
            ratios.append(spent[0] / spent[1])
    return statistics.median(ratios)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scores with engines that are opened for it.

    Attributes:
        tiling: of the detector; None = it sees whole images.
        postprocess: of its maps.
        threads: of the engines, 0 = their own choice.
    """

    tiling: Tiling | None
    postprocess: Postprocess
    threads: int

    def engine(
        self, path: Path, target: Target, pixels: Pixels, progress: Progress, rest: Rest = "fp32"
    ) -> Side:
        """Of `pixels` (N, H, W, 3) by a target's own engine on its main file; `rest` as in `Runtime.open`.

        Raises:
            EngineError: the engine refuses the file, or an image has no finite score.
        """
        return self._score(runtime_for(target.engine), path, target, pixels, progress, rest)

    def stand_in(self, path: Path, target: Target, pixels: Pixels, progress: Progress) -> Side:
        """For a target that cannot run here: by ONNX Runtime, on the graph that it is compiled from."""
        as_graph = Target("onnxruntime", target.precision, target.device)
        runs = rounded(path) if target.precision == "fp16" else path
        return self._score(TypedGraphRuntime(target.engine), runs, as_graph, pixels, progress, "fp32")

    def slower_int8(
        self, compiled: Collection[CompiledTarget], held: Iterable[Target], pixels: Pixels
    ) -> Iterator[str]:
        """Says so of each int8 target that is slower here than its engine's bf16, where that is in `held`."""
        by_target = {made.target: made for made in compiled}
        for target, made in by_target.items():
            twin = replace(target, precision="bf16")
            if target.precision != "int8" or twin not in by_target or twin not in held:
                continue
            with self._opened(made) as first, self._opened(by_target[twin]) as second:
                ratio = times_as_long(first, second, pixels)
            if ratio > 1:
                yield f"{target} takes {ratio:.2f} times as long here as {twin}, which holds, too: take that"

    def _opened(self, made: CompiledTarget) -> contextlib.AbstractContextManager[Runtime]:
        runtime = tiled(runtime_for(made.target.engine), self.tiling)
        return runtime.open(made.main_file, made.target, threads=self.threads, rest=made.rest)

    def _score(
        self, runtime: Runtime, path: Path, target: Target, pixels: Pixels, progress: Progress, rest: Rest
    ) -> Side:
        with tiled(runtime, self.tiling).open(path, target, threads=self.threads, rest=rest) as opened:
            scorer = EngineScorer(opened, self.postprocess)
            side = score_side(scorer, pixels, progress=progress, name=f"scoring {target}")
        check_finite(side, target)
        return side
