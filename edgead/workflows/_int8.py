"""INT8 ranges for an export: choose images, run them, note what values the graph's tensors take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.calibration.calibration_set import spread
from edgead.calibration.int8 import CalibrationTable, RangeRule, observe, table
from edgead.data.folder import ImageItem
from edgead.exporters._qdq import observed, pixel_tensors
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Progress
from edgead.types import Geometry
from edgead.workflows._images import load_pixels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

REPORT = "reports/int8_calibration.json"
"""Name of the table in a bundle."""

_MAX_IMAGES, _FEW_IMAGES, _SEED = 300, 16, 0
_NAMED = 5
# Decoded at once to choose from, as multiples of what is wanted.
_POOL = 4


def calibrate(
    graph: Path,
    images: Mapping[ImageItem, str],
    geometry: Geometry,
    *,
    postprocess: Postprocess,
    limit: float,
    rule: RangeRule,
    bit_depth: int | None,
    progress: Progress,
) -> CalibrationTable:
    """Run good images through graph.onnx in fp32 and note what values its tensors take.

    Images that were trained on are as good as others here. Those that look anomalous are named, since a
    defect widens the ranges for all good parts.

    Args:
        graph: graph.onnx.
        images: good ones, with their content hashes.
        geometry: the detector's.
        postprocess: the detector's.
        limit: raw score from which the MODEL calls an image NG.
        rule: how ranges are made of values.
        bit_depth: of 16-bit files.
        progress: bars and messages.

    Raises:
        DatasetError: no image can be read.
        EngineError: a tensor is not finite on an image.
    """
    pool = sorted(images, key=images.__getitem__)[: _POOL * _MAX_IMAGES]
    loaded = load_pixels(pool, geometry, bit_depth=bit_depth, progress=progress, name="images for INT8")
    chosen = spread(loaded.pixels, _MAX_IMAGES, _SEED)
    if len(chosen) < _FEW_IMAGES:
        progress.say(
            f"INT8 ranges from {len(chosen)} images: values that these do not show are clipped; "
            f"{_FEW_IMAGES} or more, better 100, make sure of them"
        )
    pixels = loaded.pixels[list(chosen)]
    if (pixels == pixels[:1]).all():
        progress.say("all images for INT8 are the same: the ranges hold for that one picture only")
    scores: list[float] = []
    tensors, pixel_ranges, run = _observable(graph)

    def step(image: Pixels) -> Mapping[str, npt.NDArray[np.float32]]:
        values = run(image)
        own = float(values["image_score"][0]) if "image_score" in values else None
        scores.append(postprocess.scores(values["anomaly_map"][0], own)[0])
        return {name: values[name] for name in tensors}

    paths = [str(loaded.items[index].path) for index in chosen]
    found = observe(step, pixels, paths, progress=progress)
    odd = sorted((value, path) for value, path in zip(scores, paths, strict=True) if value >= limit)[::-1]
    if odd:
        shown = ", ".join(path for _, path in odd[:_NAMED])
        progress.say(
            f"{len(odd)} of {len(paths)} images for INT8 score as anomalous, the worst first: {shown}; a "
            "defect among good images widens the ranges: look at them, and take out what is not good"
        )
    return table(
        found,
        rule,
        images=[images[loaded.items[index]] for index in chosen],
        seed=_SEED,
        exact=pixel_ranges,
    )


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
