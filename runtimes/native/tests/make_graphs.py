"""Small graphs for test_engine_openvino and test_engine_onnxruntime, and what Python's engines make of them.

Usage: make_graphs.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

SIZE = (12, 17)
IMAGES = 3
WEIGHTS = np.random.default_rng(7).normal(size=(2, 3, 3, 3)).astype(np.float32)
MORE = np.random.default_rng(8).normal(size=(2, 2, 3, 3)).astype(np.float32)


def graph(
    *,
    score: bool = False,
    batch: int = 1,
    input_type: type = np.uint8,
    name: str = "anomaly_map",
    dynamic: bool = False,
) -> openvino.Model:
    """Pixels over 255, two zero-padded 3×3 convolutions with a ReLU between."""
    image = ops.parameter([-1 if dynamic else batch, *SIZE, 3], input_type, name="image")
    image.output(0).set_names({"image"})
    planes = ops.transpose(ops.divide(ops.convert(image, np.float32), np.float32(255)), [0, 3, 1, 2])
    steps = ([1, 1], [1, 1], [1, 1], [1, 1])
    inner = ops.relu(ops.convolution(planes, WEIGHTS, *steps))
    anomaly_map = ops.convolution(inner, MORE, *steps)
    results = [ops.result(anomaly_map)]
    results[0].output(0).set_names({name})
    if score:
        results.append(ops.result(ops.reduce_max(anomaly_map, [1, 2, 3], False)))
        results[1].output(0).set_names({"image_score"})
    return openvino.Model(results, [image], "edgead_test")


def run(model: openvino.Model, precision: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Map and score of each image, compiled as openvino_runtime.py does; None without the precision."""
    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
    }
    compiled = openvino.Core().compile_model(model, "CPU", config)
    if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != precision:
        return None
    maps, scores = [], []
    for image in images:
        result = compiled(image[None])
        maps.append(result["anomaly_map"][0].copy())
        scores.append(result["image_score"][0])
    return np.stack(maps), np.array(scores)


def main() -> None:
    """Write everything."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)

    def write(name: str, model: openvino.Model) -> None:
        openvino.save_model(model, directory / f"{name}.xml", compress_to_fp16=False)

    write("plain", graph())
    write("scored", graph(score=True))
    write("batch2", graph(batch=2))
    write("float_input", graph(input_type=np.float32))
    write("dynamic", graph(dynamic=True))
    write("other_output", graph(name="heat"))
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *SIZE, 3), dtype=np.uint8)
    images.tofile(directory / "images.u8")
    for precision in ("f32", "bf16"):
        given = run(graph(score=True), precision, images)
        for part, name in enumerate(("map", "score")):
            path = directory / f"{name}.{precision}"
            path.unlink(missing_ok=True)
            if given is not None:
                given[part].astype("<f4").tofile(path)


if __name__ == "__main__":
    main()
