"""How bundle_v1.edgead was made: every byte of it, from arithmetic. Run: python make_bundle_v1.py NEW_FOLDER

The network adds the twelve bytes of each 2×2 RGB block and divides by 16, so that every engine gives exactly
the same map in float32; the post operator is 2× bilinear up-sampling (half-pixel centres, clamped), weights
1/4 and 3/4. An 8×8 image gives a 4×4 grid and an 8×8 map. The bundle beside this file must stay readable for
ever.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgead.bundle.hashes import sha256_bytes
from edgead.bundle.manifest import (
    DetectorInfo,
    GoldenExpectation,
    GoldenImage,
    Graph,
    GraphParity,
    Identity,
    Manifest,
    Provenance,
    TargetEntry,
    TensorSpec,
)
from edgead.bundle.reader import BandedArrays
from edgead.bundle.writer import BundleWriter
from edgead.types import Geometry, PostRecipe, Thresholds

TARGETS = ("openvino:fp32", "onnxruntime:fp32")


def graph() -> bytes:
    """uint8 (1, 8, 8, 3) → float32 (1, 1, 4, 4): block sums over 16."""
    weights = numpy_helper.from_array(np.full((1, 3, 2, 2), 1 / 16, np.float32), "weights")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["anomaly_map"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 3])
    result = helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 1, 4, 4])
    body = helper.make_graph(nodes, "block_sums", [image], [result], [weights])
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", 17)], producer_name="edgead-golden"
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def images() -> dict[str, npt.NDArray[np.uint8]]:
    """A good image, and the same with a bright 2×2 block."""
    y, x, c = np.mgrid[:8, :8, :3]
    good = ((7 * x + 13 * y + 3 * c) % 97).astype(np.uint8)
    defect = good.copy()
    defect[4:6, 2:4] = 255
    return {"good": good, "synthetic_defect": defect}


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """8-bit RGB PNG with one stored deflate block: the same bytes from every zlib."""
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    block = b"\x78\x01\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF) + rows
    header = struct.pack(">2I5B", image.shape[1], image.shape[0], 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", block + struct.pack(">I", zlib.adler32(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def grid_of(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The raw map, exact."""
    return image.astype(np.float64).reshape(4, 2, 4, 2, 3).sum((1, 3, 4)) / 16


def operator() -> BandedArrays:
    """2× bilinear: row r looks at (r - 0.5)/2, between the grid cells beside it."""
    start = np.array([0, 0, 0, 1, 1, 2, 2, 2], np.int32)
    weights = np.array([[4, 0], [3, 1], [1, 3], [3, 1], [1, 3], [3, 1], [1, 3], [0, 4]], np.float32) / 4
    return BandedArrays(8, 4, 2, start, weights)


def map_of(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The operator applied to the grid, exact in float32."""
    banded = operator()
    dense = np.zeros((8, 4))
    for row, (first, weights) in enumerate(zip(banded.start, banded.weights, strict=True)):
        dense[row, first : first + 2] = weights
    return (dense @ grid @ dense.T).astype(np.float32)


def build(path: Path) -> str:
    """Write the bundle and return its digest."""
    with BundleWriter(path) as writer:
        writer.add_file("graph.onnx", graph())
        writer.add_file("reports/recipe.txt", b"made by tests/golden/make_bundle_v1.py\n")
        golden, scores, peaks, ranges = [], [], [], []
        for kind, image in images().items():
            grid = grid_of(image)
            scores.append(float(grid.max()))
            peaks.append(float(map_of(grid).max()))
            ranges.append(float(grid.max() - grid.min()))
            writer.add_file(f"golden/{kind}.png", png(image))
            writer.add_map(f"golden/{kind}.map.f32", map_of(grid))
            expected = tuple(
                GoldenExpectation(target=target, score_raw=scores[-1], map_file=f"golden/{kind}.map.f32")
                for target in TARGETS
            )
            golden.append(GoldenImage(file=f"golden/{kind}.png", kind=kind, expected=expected))
        thresholds = Thresholds(
            image=(scores[0] + scores[1]) / 2,
            pixel=(peaks[0] + peaks[1]) / 2,
            image_median=scores[0],
            pixel_median=peaks[0],
            method={"rule": "midway", "images": 2, "note": "σ and ≥ are no ASCII"},
        )
        targets = tuple(
            TargetEntry(
                target=target,
                engine=target.split(":")[0],
                precision="fp32",
                device="cpu",
                main_file="graph.onnx",
                files=("graph.onnx",),
                config={"NUM_STREAMS": 1} if target.startswith("openvino") else {},
                identity=Identity(
                    machine="x86_64",
                    device="none: the values are arithmetic",
                    features=(),
                    engine_version="0",
                ),
                thresholds=thresholds,
                score_tolerance=0.001,
                map_tolerance=0.001,
            )
            for target in TARGETS
        )
        manifest = Manifest(
            created_by="edgead 0.1.0",
            detector=DetectorInfo(name="simplenet", preset="simplenet", config={"block": 2, "divisor": 16.0}),
            geometry=Geometry(height=8, width=8),
            post=PostRecipe(grid=(4, 4), output=(8, 8)),
            operator=writer.add_operator(operator(), operator()),
            graph=Graph(
                file="graph.onnx",
                data_files=(),
                input=TensorSpec(name="image", dtype="uint8", shape=(1, 8, 8, 3)),
                outputs=(TensorSpec(name="anomaly_map", dtype="float32", shape=(1, 1, 4, 4)),),
                opset=17,
            ),
            targets=targets,
            reference=thresholds,
            golden=tuple(golden),
            reports=("reports/recipe.txt",),
            provenance=Provenance(
                created="2026-11-23T14:35:56Z",
                model=sha256_bytes(b"no MODEL"),
                seeds={"reserve": 0, "train": 1},
                tools={"torch": "2.6.0"},
                train=(sha256_bytes(b"image 1"), sha256_bytes(b"image 2")),
                calibration=(),
                held_out=(sha256_bytes(png(images()["good"])),),
                validation=(),
                graph_parity=GraphParity(
                    images=1, score_shift_max=0.0, score_range=0.0, map_shift_max=0.0, map_range=ranges[0]
                ),
            ),
        )
        return writer.finish(manifest)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
