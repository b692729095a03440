"""Tiles as one image: libedgead and Python give the same bits, and what one run on the whole image gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead._native.model import NativeModel
from edgead.bundle import hash_list
from edgead.bundle.hashes import sha256_file
from edgead.bundle.manifest import GoldenExpectation, GoldenImage, Manifest, TensorSpec
from edgead.bundle.reader import BandedArrays, open_bundle
from edgead.bundle.writer import BundleWriter
from edgead.errors import BundleError, EngineError
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded, build
from edgead.runtimes._tiled import TiledRuntime, tiled
from edgead.runtimes.null_runtime import NullRuntime
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.runtimes.session import Session
from edgead.tiling import Tiling, joined, laid_out, tiling_of
from edgead.types import Geometry, PostRecipe, Target

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ORT, OPENVINO, NULL = (Target(name, "fp32") for name in ("onnxruntime", "openvino", "null"))


def network(
    size: tuple[int, int], stride: int, channels: int, *, reach: int = 0, scored: bool = False
) -> bytes:
    """Squares of `stride` pixels to values, and an unpadded convolution over 2·reach + 1 of those."""
    random = np.random.default_rng(stride + channels)
    side = 2 * reach + 1
    first = random.normal(0, 0.02, (5, 3, stride, stride)).astype(np.float32)
    second = random.normal(0, 1, (channels, 5, side, side)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first"], ["patches"], strides=[stride, stride]),
        helper.make_node("Relu", ["patches"], ["seen"]),
        helper.make_node("Conv", ["seen", "second"], ["anomaly_map"]),
    ]
    grid = [side // stride - 2 * reach for side in size]
    outputs = [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, channels, *grid])]
    if scored:
        nodes += [
            helper.make_node("ReduceMax", ["anomaly_map"], ["highest"], keepdims=0),
            helper.make_node("Reshape", ["highest", "one"], ["image_score"]),
        ]
        outputs.append(helper.make_tensor_value_info("image_score", TensorProto.FLOAT, [1]))
    weights = [
        numpy_helper.from_array(first, "first"),
        numpy_helper.from_array(second, "second"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *size, 3])
    body = helper.make_graph(nodes, "test", [image], outputs, weights[: 3 if scored else 2])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Case:
    tile: tuple[int, int]
    counts: tuple[int, int]
    stride: int
    channels: int = 1
    overlap: int | None = None
    reach: int = 0
    scored: bool = False

    @property
    def recipe(self) -> PostRecipe:
        """Of one tile."""
        grid = (self.tile[0] // self.stride - 2 * self.reach, self.tile[1] // self.stride - 2 * self.reach)
        return PostRecipe(
            grid=grid,
            output=self.tile,
            channels=self.channels,
            alpha=tuple(0.5 - index for index in range(self.channels)),
            pad=(self.reach,) * 4,
            upsample="nearest",
            score_rule="graph" if self.scored else "max",
        )

    @property
    def geometry(self) -> Geometry:
        return laid_out(
            Geometry(height=self.tile[0], width=self.tile[1]), self.counts, self.overlap, self.recipe
        )

    @property
    def tiling(self) -> Tiling:
        found = tiling_of(self.geometry, self.recipe.grid, self.recipe.pad)
        assert found is not None
        return found

    def graph(self, size: tuple[int, int]) -> bytes:
        return network(size, self.stride, self.channels, reach=self.reach, scored=self.scored)

    def write(self, path: Path, geometry: Geometry | None = None) -> None:
        """A bundle whose golden values are none: it is opened without a self-test."""
        geometry = geometry or self.geometry
        post = joined(self.recipe, geometry)
        first = Manifest.from_json((GOLDEN / "bundle_v1.edgead" / "manifest.json").read_bytes())
        outputs = [
            TensorSpec(name="anomaly_map", dtype="float32", shape=(1, self.channels, *self.recipe.grid))
        ]
        if self.scored:
            outputs.append(TensorSpec(name="image_score", dtype="float32", shape=(1,)))
        with BundleWriter(path) as writer:
            writer.add_file("graph.onnx", self.graph(self.tile))
            import cv2

            blank = np.zeros((*geometry.image_size, 3), np.uint8)
            writer.add_file("golden/0.png", cv2.imencode(".png", blank)[1].tobytes())
            writer.add_map("golden/0.f32", np.zeros(post.output, np.float32))
            h, w = (
                BandedArrays(one.rows, one.cols, one.band, one.start, one.weights)
                for one in map(Banded.from_dense, build(post))
            )
            expected = GoldenExpectation(target=str(OPENVINO), score_raw=0.0, map_file="golden/0.f32")
            writer.finish(
                replace(
                    first,
                    schema=1 if geometry.tiles is None else 2,
                    geometry=geometry,
                    post=post,
                    operator=writer.add_operator(h, w),
                    graph=replace(
                        first.graph,
                        input=TensorSpec(name="image", dtype="uint8", shape=(1, *self.tile, 3)),
                        outputs=tuple(outputs),
                    ),
                    targets=first.targets[:1],
                    golden=(GoldenImage(file="golden/0.png", kind="good", expected=(expected,)),),
                    reports=(),
                )
            )


CASES = [
    Case((32, 32), (2, 3), 4),
    Case((32, 48), (3, 2), 4, channels=3),
    Case((40, 24), (1, 5), 8, channels=2, overlap=16),  # a strip, three tiles over each other
    Case((24, 40), (4, 1), 8, overlap=0),
    Case((30, 50), (3, 3), 10, channels=2, scored=True),
    Case((32, 32), (2, 2), 4, overlap=12, reach=1),
    Case((32, 32), (1, 1), 4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_native_and_python_give_the_same_bits(case: Case, tmp_path: Path) -> None:
    case.write(tmp_path / "b.edgead")
    random = np.random.default_rng(0)
    with (
        open_bundle(tmp_path / "b.edgead") as bundle,
        Session.open(bundle, OPENVINO, threads=1, runtime="native", self_test=False) as native,
        Session.open(bundle, OPENVINO, threads=1, runtime="python") as python,
    ):
        for height, width in ((100, 150), (33, 400), (7, 5)):
            frame = Frame(random.integers(0, 256, (height, width, 3), np.uint8), "BGR8")
            left, right = native.predict(frame), python.predict(frame)
            assert left.score_raw == right.score_raw
            assert left.regions == right.regions
            assert left.anomaly_map.shape == case.geometry.image_size
            assert left.anomaly_map.tobytes() == right.anomaly_map.tobytes()
            assert np.ptp(left.anomaly_map) > 0.1


def run_on(graph: bytes, image: np.ndarray, folder: Path, tiling: Tiling | None) -> Any:
    path = folder / "graph.onnx"
    path.write_bytes(graph)
    with tiled(OnnxRuntime(), tiling).open(path, ORT, threads=1) as runtime:
        found = runtime.infer(image)
        return found.anomaly_map.copy(), found.image_score


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_joined_map_is_that_of_the_whole_image(case: Case, tmp_path: Path) -> None:
    """A network that sees no further than the overlap and does not pad: only rounding tells the tiles."""
    size = case.geometry.image_size
    image = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
    found, score = run_on(case.graph(case.tile), image, tmp_path, case.tiling)
    whole, whole_score = run_on(case.graph(size), image, tmp_path, None)
    assert found.shape == whole.shape == (1, case.channels, *case.tiling.grid)
    np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max())
    if case.counts == (1, 1):
        np.testing.assert_array_equal(found, whole)
    assert (score is None) == (not case.scored)
    if case.scored:
        np.testing.assert_allclose(score, whole_score, rtol=1e-5)


def test_padding_within_the_overlap_does_show(tmp_path: Path) -> None:
    """The test above can fail: with zeros around each tile, its outer cells differ."""
    case = Case((32, 32), (1, 2), 4, overlap=16)
    model = onnx.load_from_string(case.graph((32, 32)))
    conv = model.graph.node[4]
    wide = np.random.default_rng(4).normal(0, 1, (1, 5, 3, 3)).astype(np.float32)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(wide, "second"))
    conv.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 48, 3), np.uint8)
    found, _ = run_on(model.SerializeToString(), image, tmp_path, case.tiling)
    for entry in (
        model.graph.input[0].type.tensor_type.shape.dim[2],
        *model.graph.output[0].type.tensor_type.shape.dim[3:],
    ):
        entry.dim_value = 48 if entry.dim_value == 32 else 12
    whole, _ = run_on(model.SerializeToString(), image, tmp_path, None)
    off = np.abs(found - whole)[0, 0].max(0) > 1e-4
    np.testing.assert_array_equal(np.flatnonzero(off), [4, 7])


def test_one_tile_is_no_tiling(tmp_path: Path) -> None:
    case = CASES[-1]
    case.write(tmp_path / "tiled.edgead")
    case.write(tmp_path / "plain.edgead", Geometry(height=32, width=32))
    frame = Frame(np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8), "BGR8")
    maps = []
    for name in ("tiled", "plain"):
        for runtime in ("native", "python"):
            with (
                open_bundle(tmp_path / f"{name}.edgead") as bundle,
                Session.open(bundle, OPENVINO, runtime=runtime, self_test=False, threads=1) as session,  # type: ignore[arg-type]
            ):
                found = session.predict(frame)
                maps.append((found.score_raw, found.regions, found.anomaly_map.tobytes()))
    assert maps[1:] == maps[:1] * 3


def null(folder: Path, shape: tuple[int, ...], map_shape: tuple[int, ...], score: object) -> Path:
    (folder / "m.f32").write_bytes(np.ones(map_shape, "<f4").tobytes())
    (folder / "n.json").write_text(
        json.dumps({"input": shape, "map": map_shape, "map_file": "m.f32", "score": score})
    )
    return folder / "n.json"


def test_a_map_of_ones_stays_ones_and_a_nan_score_stays_a_nan(tmp_path: Path) -> None:
    tiling = Case((30, 50), (5, 7), 10, overlap=20).tiling
    graph = null(tmp_path, (1, 30, 50, 3), (1, 2, 3, 5), float("nan"))
    with TiledRuntime(NullRuntime(), tiling).open(graph, NULL) as runtime:
        image = np.zeros(runtime.input_shape, np.uint8)
        for _ in range(2):
            found = runtime.infer(image)
            np.testing.assert_allclose(found.anomaly_map, 1, atol=5e-7)
            assert np.isnan(found.image_score)


@pytest.mark.parametrize("shape", [(1, 30, 49, 3), (2, 30, 50, 3)])
def test_an_engine_for_other_tiles_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    graph = null(tmp_path, shape, (shape[0], 1, 3, 5), None)
    with pytest.raises(EngineError, match=r"n\.json takes .* its tiles are one by one of 30x50 pixels"):
        TiledRuntime(NullRuntime(), Case((30, 50), (2, 2), 10).tiling).open(graph, NULL)


WRONG: list[tuple[str, Any]] = [
    ("schema", 1),
    ("geometry.tiles", []),
    ("geometry.tiles", {"rows": 2, "columns": 3, "height": 8}),
    ("geometry.tiles.rows", 0),
    ("geometry.tiles.rows", -2),
    ("geometry.tiles.rows", True),
    ("geometry.tiles.rows", 2.0),
    ("geometry.tiles.rows", "2"),
    ("geometry.tiles.rows", 3),
    ("geometry.tiles.rows", 8),
    ("geometry.tiles.rows", 257),
    ("geometry.tiles.rows", 2**32 + 2),
    ("geometry.tiles.columns", 1),
    ("geometry.tiles.height", 7),
    ("geometry.tiles.height", 14),
    ("geometry.tiles.width", 0),
    ("geometry.tiles.width", 2**53 - 1),
    ("geometry.tiles", None),
    ("geometry.height", 13),
    ("geometry.height", 16),
    ("geometry.window", [8, 8]),
    ("geometry.mode", "shorter_side"),
    ("post.pad", [1, 1, 0, 0]),
    ("post.pad", [65536, 65536, 65536, 65536]),
    ("post.grid", [8, 8]),
    ("graph.input.shape", [1, 14, 16, 3]),
    ("graph.input.shape", [2, 8, 8, 3]),
    ("graph.outputs.0.shape", [1, 1, 7, 8]),
    ("graph.outputs.0.shape", [1, 1, 4, 0]),
    ("graph.outputs.0.shape", [1, 1, 4, -4]),
    ("graph.outputs.0.shape", [2, 1, 4, 4]),
    ("graph.outputs.0.shape", [4, 4]),
    ("graph.outputs.0.name", "image_score"),
    ("graph.outputs", []),
]


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, Any], Path]:
    """The bundle of schema 2 with one value of its manifest changed, and every hash right."""

    def change(place: str, value: Any) -> Path:
        root = Path(shutil.copytree(GOLDEN / "bundle_v2.edgead", tmp_path / "changed.edgead"))
        tree = json.loads((root / "manifest.json").read_text())
        *folders, last = place.split(".")
        node = tree
        for part in folders:
            node = node[int(part)] if part.isdigit() else node[part]
        node[last] = value
        (root / "manifest.json").write_text(json.dumps(tree))
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        names.remove("MANIFEST.sha256")
        hashes = {name: sha256_file(root / name) for name in names}
        (root / "MANIFEST.sha256").write_bytes(hash_list.dump(hashes))
        return root

    return change


@pytest.mark.parametrize(("place", "value"), WRONG, ids=str)
def test_both_readers_refuse_it(changed: Callable[[str, Any], Path], place: str, value: Any) -> None:
    root = changed(place, value)
    with pytest.raises(BundleError), open_bundle(root):
        pass
    with pytest.raises(BundleError):
        NativeModel(root, without_engine=True)


@pytest.mark.parametrize(("place", "value"), [("geometry.tiles.later", 1), ("geometry.tiles.columns", 2)])
def test_both_readers_take_what_is_sound(changed: Callable[[str, Any], Path], place: str, value: int) -> None:
    """A field that they do not know; and fewer tiles without an overlap, which make the same map."""
    root = changed(place, value)
    with open_bundle(root) as bundle:
        assert bundle.manifest.tiling is not None
    model = NativeModel(root, without_engine=True)
    assert model.info.input_size == (14, 16)
    model.close()
