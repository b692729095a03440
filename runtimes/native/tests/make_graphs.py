"""Small graphs for the tests test_engine_*, and what Python's engines and NumPy make of them.

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


REFERENCES, NEAREST, DIM = 7, 3, 5
LEVELS = ((*SIZE, 3), (6, 9, 1))  # height, width, window


def write_query_graph(directory: Path) -> bool:
    """query.onnx and query.xml: query_0, query_1, references, weight; False where onnx is not installed."""
    try:
        import onnx
    except ImportError:
        return False
    random = np.random.default_rng(9)
    float32, int32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.UINT8
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Cast", ["image"], ["float"], to=float32),
        make("Div", ["float", "full"], ["scaled"]),
        make("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        make("Conv", ["planes", "weights"], ["query_0"], pads=[1] * 4),
        make("Conv", ["planes", "more"], ["query_1"], pads=[1] * 4, strides=[2, 2]),
        make("ReduceMean", ["planes", "axes"], ["means"], keepdims=0),
        make("MatMul", ["means", "likeness"], ["alike"]),
        make("TopK", ["alike", "nearest"], ["best", "indices"], axis=1),
        make("Cast", ["indices"], ["references"], to=int32),
        make("ReduceMax", ["planes", "channel"], ["weight"], keepdims=1),
    ]
    constants = {
        "full": np.float32(255),
        "weights": random.normal(size=(DIM, 3, 3, 3)).astype(np.float32),
        "more": random.normal(size=(DIM, 3, 3, 3)).astype(np.float32),
        "axes": np.array([2, 3]),
        "channel": np.array([1]),
        "likeness": random.normal(size=(3, REFERENCES)).astype(np.float32),
        "nearest": np.array([NEAREST]),
    }
    outputs = [info(f"query_{i}", float32, [1, DIM, *level[:2]]) for i, level in enumerate(LEVELS)]
    body = onnx.helper.make_graph(
        nodes,
        "edgead_test_query",
        [info("image", uint8, [1, *SIZE, 3])],
        [*outputs, info("references", int32, [1, NEAREST]), info("weight", float32, [1, 1, *SIZE])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, directory / "query.onnx")
    converted = openvino.convert_model(directory / "query.onnx")
    openvino.save_model(converted, directory / "query.xml", compress_to_fp16=False)
    return True


def write_banks(directory: Path) -> list[np.ndarray]:
    """level0.bin and level1.bin: unit vectors as float32, (references, height, dim, width)."""
    banks = []
    for i, (height, width, _) in enumerate(LEVELS):
        bank = np.random.default_rng(10 + i).normal(size=(REFERENCES, height, DIM, width))
        bank = (bank / np.linalg.norm(bank, axis=2, keepdims=True)).astype("<f4")
        bank.tofile(directory / f"level{i}.bin")
        banks.append(bank.astype(np.float64))
    return banks


def interpolated(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, half-pixel centres, the border repeated."""
    for axis, length in enumerate(size):
        cells = values.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
        low = np.floor(at).astype(int)
        share = np.expand_dims(at - low, 1 - axis)
        high = np.minimum(low + 1, cells - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


def searched(directory: Path, banks: list[np.ndarray], images: np.ndarray) -> np.ndarray:
    """The map of each image: the engine's query tensors, and the search in float64."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(directory / "query.xml", "CPU", config)
    maps = []
    for image in images:
        result = compiled(image[None])
        total = np.zeros(SIZE)
        for i, (height, width, window) in enumerate(LEVELS):
            query = result[f"query_{i}"][0].astype(np.float64)
            distance = np.empty((height, width))
            radius = window // 2
            for y in range(height):
                for x in range(width):
                    rows = slice(max(0, y - radius), y + radius + 1)
                    columns = slice(max(0, x - radius), x + radius + 1)
                    near = banks[i][result["references"][0], rows, :, columns]
                    best = np.einsum("krcx,c->krx", near, query[:, y, x]).max()
                    distance[y, x] = 1 - best / (np.linalg.norm(query[:, y, x]) + 1e-8)
            total += interpolated(distance, SIZE)
        big = (2 * SIZE[0], 2 * SIZE[1])
        maps.append(interpolated(total, big) * interpolated(result["weight"][0, 0].astype(np.float64), big))
    return np.stack(maps)


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
    default = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    keep(directory / "openvino_rest", run(graph(score=True), "bf16" if default == "bf16" else "f32", images))
    if write_query_graph(directory):
        banks = write_banks(directory)
        searched(directory, banks, images).astype("<f4").tofile(directory / "searched.map")
    keep(directory / "onnxruntime_fp32", run_onnxruntime(directory / "graph.onnx", images))


if __name__ == "__main__":
    main()
