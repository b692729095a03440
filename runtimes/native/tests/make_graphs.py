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


def write_onnx(directory: Path) -> None:
    """The scored graph as ONNX: in one file, with its weights beside it, and with a dynamic batch."""
    try:
        import onnx
    except ImportError:
        return
    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Cast", ["image"], ["float"], to=float32),
        make("Div", ["float", "full"], ["scaled"]),
        make("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        make("Conv", ["planes", "weights"], ["inner"], pads=[1] * 4),
        make("Relu", ["inner"], ["positive"]),
        make("Conv", ["positive", "more"], ["anomaly_map"], pads=[1] * 4),
        make("ReduceMax", ["anomaly_map", "axes"], ["image_score"], keepdims=0),
    ]
    constants = {"full": np.float32(255), "weights": WEIGHTS, "more": MORE, "axes": np.array([1, 2, 3])}
    for name, batch in (("graph", 1), ("external", 1), ("dynamic", "batch")):
        body = onnx.helper.make_graph(
            nodes,
            "edgead_test",
            [info("image", uint8, [batch, *SIZE, 3])],
            [info("anomaly_map", float32, [batch, 2, *SIZE]), info("image_score", float32, [batch])],
            [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
        path = directory / f"{name}.onnx"
        path.with_suffix(".data").unlink(missing_ok=True)
        outside = {"save_as_external_data": True, "location": "external.data", "size_threshold": 100}
        onnx.save(model, path, **(outside if name == "external" else {}))


def run_onnxruntime(path: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Map and score of each image by ONNX Runtime in Python; None where something is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    if not path.exists():
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    results = [session.run(["anomaly_map", "image_score"], {"image": image[None]}) for image in images]
    return np.concatenate([maps for maps, _ in results]), np.concatenate([scores for _, scores in results])


def keep(stem: Path, given: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Write STEM.map and STEM.score, or remove those of an earlier run."""
    for part, suffix in enumerate((".map", ".score")):
        path = stem.with_suffix(suffix)
        path.unlink(missing_ok=True)
        if given is not None:
            given[part].astype("<f4").tofile(path)


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
    write_onnx(directory)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *SIZE, 3), dtype=np.uint8)
    images.tofile(directory / "images.u8")
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        keep(directory / f"openvino_{precision}", run(graph(score=True), hint, images))
    keep(directory / "onnxruntime_fp32", run_onnxruntime(directory / "graph.onnx", images))


if __name__ == "__main__":
    main()
