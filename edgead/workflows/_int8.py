"""INT8 targets of an export: ranges from good images, then an engine for each, repaired until it holds."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.benchmarks import figures
from edgead.calibration.calibration_set import spread
from edgead.calibration.int8 import CalibrationTable, RangeRule, observe, ranges_of
from edgead.calibration.sensitivity import Repair, repair
from edgead.data.folder import ImageItem
from edgead.errors import InternalError
from edgead.exporters._base import CompiledTarget, Exporter
from edgead.exporters._qdq import Int8Recipe, encode, layers, leaves_products, observed, pixel_tensors
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Progress, Silent
from edgead.tiling import Tiling
from edgead.types import Geometry, Rest, Target
from edgead.workflows._images import load_pixels
from edgead.workflows._sides import Side

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

REPORT = "reports/int8_calibration.json"
"""Name of the table in a bundle."""

_MAX_IMAGES, _FEW_IMAGES, _SEED = 300, 16, 0
_NAMED = 5
# Of the largest map error that is left, how much of it bf16 may make of the map's shape.
_REST_SHARE = 0.7
_TRIED = 24  # images that layers are tried on, half of them with a defect
_ALL, _SOME = slice(None), slice(None, None, 3)  # of them, for all layers together and for each alone
_MACS_PER_US, _BYTES_PER_US = 1.0e5, 2.0e4
# Decoded at once to choose from, as multiples of what is wanted.
_POOL = 4


def calibrate(
    graphs: Mapping[str, Path],
    images: Mapping[ImageItem, str],
    geometry: Geometry,
    *,
    tiling: Tiling | None,
    postprocess: Postprocess,
    limit: float,
    rule: RangeRule,
    bit_depth: int | None,
    progress: Progress,
) -> CalibrationTable:
    """Run good images through float graphs and note what values their tensors take.

    Images that were trained on are as good as others here. Those that look anomalous are named, since a
    defect widens the ranges for all good parts.

    Args:
        graphs: name in the bundle to path; the first is graph.onnx, which tells how anomalous an image is.
        images: good ones, with their content hashes.
        geometry: the detector's.
        tiling: the detector's; with one, tiles are what the graphs are run on.
        postprocess: the detector's, of one input of the graph.
        limit: raw score from which the MODEL calls an image NG.
        rule: how ranges are made of values.
        bit_depth: of 16-bit files.
        progress: bars and messages.

    Raises:
        DatasetError: no image can be read.
        EngineError: a tensor is not finite on an image.
    """
    parts = 1 if tiling is None else tiling.count
    pool = sorted(images, key=images.__getitem__)[: max(1, _POOL * _MAX_IMAGES // parts)]
    loaded = load_pixels(pool, geometry, bit_depth=bit_depth, progress=progress, name="images for INT8")
    inputs = loaded.pixels if tiling is None else tiling.cut(loaded.pixels)
    chosen = spread(inputs, _MAX_IMAGES, _SEED)
    if len(chosen) < _FEW_IMAGES:
        progress.say(
            f"INT8 ranges from {len(chosen)} images: values that these do not show are clipped; "
            f"{_FEW_IMAGES} or more, better 100, make sure of them"
        )
    pixels = inputs[list(chosen)]
    if (pixels == pixels[:1]).all():
        progress.say("all images for INT8 are the same: the ranges hold for that one picture only")
    scores: list[float] = []
    shown = [loaded.items[index // parts] for index in chosen]
    paths = [str(item.path) for item in shown]
    found = {}
    for name, graph in graphs.items():
        tensors, known, run = _observable(graph)

        def step(
            image: Pixels, run: Any = run, tensors: tuple[str, ...] = tensors
        ) -> Mapping[str, npt.NDArray[np.float32]]:
            values = run(image)
            if "anomaly_map" in values:
                own = float(values["image_score"][0]) if "image_score" in values else None
                scores.append(postprocess.scores(values["anomaly_map"][0], own)[0])
            return {tensor: values[tensor] for tensor in tensors}

        found[name] = {**ranges_of(observe(step, pixels, paths, progress=progress), rule), **known}
    odd = sorted((value, path) for value, path in zip(scores, paths, strict=True) if value >= limit)[::-1]
    if odd:
        worst = ", ".join(path for _, path in odd[:_NAMED])
        progress.say(
            f"{len(odd)} of {len(paths)} images for INT8 score as anomalous, the worst first: {worst}; a "
            "defect among good images widens the ranges: look at them, and take out what is not good"
        )
    hashes = tuple(dict.fromkeys(images[item] for item in shown))
    return CalibrationTable(rule=rule, images=hashes, seed=_SEED, graphs=found)


@dataclass(slots=True, kw_only=True)
class Int8Builder:
    """Makes the 8-bit engines of one export.

    Attributes:
        graph: graph.onnx.
        table: ranges of it and of what stands for it beside a search, by their name below its folder.
        recipe: the detector's.
        out: folder of the targets.
        pixels: good images, then defects, (N, H, W, 3) uint8 RGB, that layers are tried on.
        maps: what the MODEL makes of them.
        score: scores pixels with the engine of a main file, what is not quantised computed in the last.
        goal: largest error of a map, see `map_error`.
        has_bf16: whether the CPU computes in bfloat16.
        progress: bars and messages.
        reports: name in the bundle to content, of what was repaired.
    """

    graph: Path
    table: CalibrationTable
    recipe: Int8Recipe
    out: Path
    pixels: Pixels
    maps: npt.NDArray[np.float32]
    score: Callable[[Path, Target, Pixels, Progress, Rest], Side]
    goal: float
    has_bf16: bool
    progress: Progress
    reports: dict[str, bytes] = field(default_factory=dict)

    def build(
        self,
        exporter: Exporter,
        target: Target,
        pixels: Pixels,
        failures: Callable[[Side], tuple[str, ...]],
        *,
        stand_in: Callable[[Path, Target, Pixels, Progress], Side] | None = None,
    ) -> tuple[CompiledTarget, Side]:
        """The engine of `target`, with as many layers in float as it needs, and its scores of `pixels`.

        Args:
            exporter: the engine's.
            target: an int8 one.
            pixels: what the export judges by.
            failures: what of an engine's scores of `pixels` is over the gate's limits.
            stand_in: scores pixels with the Q/DQ graph, for an engine that cannot run here; it is compiled
                once, at the end. None = the engine's own scores.
        """
        assert exporter.encoding is not None, "an exporter of int8 says how"
        encoding, source = exporter.encoding, exporter.source(self.graph)
        ranges = self.table.graphs[source.relative_to(self.graph.parent).as_posix()]
        names = layers(source, self.recipe)
        encoded: Path = source
        made: CompiledTarget | None = None
        side: Side | None = None

        def scored(pixels: Pixels, progress: Progress) -> Side:
            if stand_in is not None:
                return stand_in(encoded, target, pixels, progress)
            assert made is not None, "error comes first"
            return self.score(made.main_file, target, pixels, progress, "fp32")

        def error(kept: Collection[str], part: slice = _ALL) -> float:
            nonlocal encoded, made
            encoded = encode(source, ranges, kept, encoding)
            if stand_in is None:
                made = exporter.compile(encoded, target, self.out)
            return map_error(scored(self.pixels[part], Silent()).maps, self.maps[part])

        def gate(kept: Collection[str]) -> tuple[str, ...]:
            nonlocal side
            side = scored(pixels, self.progress)
            return failures(side)

        done = repair(
            names,
            goal=self.goal,
            error=error,
            alone=lambda name: error([name], _SOME),
            gate=gate,
            microseconds=lambda: _float_times(source, names),
            progress=self.progress,
        )
        if stand_in is not None:
            made = exporter.compile(encoded, target, self.out)
        if made is None:
            raise InternalError(f"{target}: no engine was made")
        if done.steps[-1].failures is None:
            side = scored(pixels, self.progress)
        assert side is not None, "the last step was asked"
        self._report(done, target, len(names))
        if exporter.chooses_rest and self.has_bf16 and target.device == "cpu":
            eight = frozenset(names).difference(done.steps[-1].returned)
            if leaves_products(source, eight):
                return self._in_bf16(made, pixels, failures) or (made, side)
        return made, side

    def _in_bf16(
        self, made: CompiledTarget, pixels: Pixels, failures: Callable[[Side], tuple[str, ...]]
    ) -> tuple[CompiledTarget, Side] | None:
        """The engine with what is not quantised in bf16, and its scores, where error and gate allow that.

        It adds bf16's own error, so it is tried last: with it, a layer alone in 8 bits would say little about
        that layer. Where no product is left in float it is slower: bf16 is converted back for sums and roots.
        More noise in features is more distance everywhere, which thresholds follow, so that scale and offset
        of the map do not count: on MVTec bottle, an error of 0.07 cost PatchCore 0.2 points of AU-PRO, 0.11
        SimpleNet 0.4, 0.37 PaDiM 2.2; on magnetic tile, 0.08 cost STFPM 1.0, which is twice what may be lost.
        """
        target = made.target
        tried = self.score(made.main_file, target, self.pixels, Silent(), "bf16")
        error = shape_error(tried.maps, self.maps)
        side = (
            self.score(made.main_file, target, pixels, self.progress, "bf16")
            if error <= _REST_SHARE * self.goal
            else None
        )
        if side is None or failures(side):
            self.progress.say(
                f"{target}: the rest stays in fp32; in bf16 the map's shape has an error of {error:.3f}"
            )
            return None
        self.progress.say(f"{target}: the rest in bf16, the map's shape has an error of {error:.3f}")
        return replace(made, rest="bf16"), side

    def _report(self, done: Repair, target: Target, count: int) -> None:
        last = done.steps[-1]
        if not done.layers:
            self.progress.say(f"{target}: {count} layers in 8 bits, map error {last.error:.3f}")
            return
        self.progress.say(
            f"{target}: {len(last.returned)} of {count} layers went back to float, map error "
            f"{done.steps[0].error:.3f} before, {last.error:.3f} after"
            + ("" if done.holds else f"; {done.goal:g} and the gate were aimed at")
        )
        stem = f"reports/int8_repair-{target.slug}"
        self.reports[f"{stem}.json"] = (json.dumps(done.to_values(), indent=1) + "\n").encode()
        with contextlib.suppress(
            ImportError
        ):  # matplotlib comes with the extra export, the picture is no must
            self.reports[f"{stem}.svg"] = figures.int8_repair(done).encode()


def map_error(maps: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    """Root mean square of the difference, as a share of the reference's deviation; inf if not finite."""
    import numpy as np

    deviation = float(reference.std(dtype=np.float64))
    found = float(np.sqrt(np.square(maps - reference, dtype=np.float64).mean()))
    return found / (deviation or 1.0) if np.isfinite(found) else float("inf")


def shape_error(maps: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    """The least that `map_error` can be with maps times a scale from 0 on, plus an offset; inf if not finite.

    It is √(1 − r²) of Pearson's r where that is above 0, else 1; 0 where the reference is constant.
    """
    import numpy as np

    if not np.isfinite(maps).all():
        return float("inf")
    first, second = (
        values.astype(np.float64) - values.mean(dtype=np.float64) for values in (maps, reference)
    )
    norm = float(np.square(second).sum())
    if not norm or not first.any():
        return float(bool(norm))
    scale = max(0.0, float((first * second).sum() / np.square(first).sum()))
    return float(np.sqrt(np.square(scale * first - second).sum() / norm))


def tried_images(good: int, first_defect: int, total: int) -> list[int]:
    """Indices of some good images and some with a defect, of `total`: what layers are tried on."""
    half = _TRIED // 2
    return [*range(min(good, half)), *range(first_defect, min(first_defect + half, total))]


def _float_times(graph: Path, names: Collection[str]) -> dict[str, float]:
    """About how many microseconds each node takes in float: to compute, or to move data if that is longer.

    Of a nominal machine, two cores with AVX-512. Measured times would make another engine of the same MODEL
    each time.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(graph, load_external_data=False))
    entries = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    sizes = {e.name: math.prod(d.dim_value for d in e.type.tensor_type.shape.dim) for e in entries}
    shapes = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    wanted, times = frozenset(names), {}
    for node in model.graph.node:
        if node.name in wanted:
            weights = shapes[node.input[1]]
            # Each value of the output sums up as many products as there are weights for one output channel.
            products = math.prod(weights) // (weights[1] if node.op_type == "MatMul" else weights[0])
            macs = sizes.get(node.output[0], 0) * products
            moved = 4 * (sizes.get(node.input[0], 0) + sizes.get(node.output[0], 0) + math.prod(weights))
            times[node.name] = max(macs / _MACS_PER_US, moved / _BYTES_PER_US)
    return times


def _observable(
    graph: Path,
) -> tuple[tuple[str, ...], Mapping[str, Any], Callable[[Pixels], dict[str, Any]]]:
    """(tensors to observe, ranges known without, run); run gives those tensors and the outputs."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    known = pixel_tensors(model.graph)
    names = tuple(name for name in observed(model.graph) if name not in known)
    own = {entry.name for entry in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in own
    )
    path = graph.with_name(f"{graph.stem}.observed.onnx")
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = [entry.name for entry in session.get_outputs()]

    def run(image: Pixels) -> dict[str, Any]:
        return dict(zip(outputs, session.run(outputs, {"image": image}), strict=True))

    return names, known, run
