"""Engines with a windowed search: exporter, Python runtime and libedgead against NumPy in float64."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.bundle.hashes import sha256_file
from edgead.bundle.head import WindowSearch
from edgead.bundle.manifest import GoldenExpectation, Manifest
from edgead.bundle.reader import open_bundle
from edgead.bundle.writer import BundleWriter
from edgead.errors import BundleError, EngineError, InternalError, UsageError
from edgead.exporters._base import CompiledTarget
from edgead.exporters._head_files import query_path, write_head
from edgead.exporters._registry import exporter_for
from edgead.imaging.frame import Frame
from edgead.runtimes._registry import engines, runtime_for
from edgead.runtimes.native_runtime import library_for
from edgead.runtimes.session import Session
from edgead.types import Geometry, PostRecipe, Target

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bundle_v1.edgead"
SIZE, GRID = (12, 17), (24, 34)
REFERENCES, NEAREST, DIM = 9, 4, 6
LEVELS = ((12, 17, 3), (6, 9, 1))  # height, width, window
ENGINES = ("openvino+window_search", "onnxruntime+window_search")


@dataclass(frozen=True)
class Made:
    """graph.onnx, its head and the banks in float64, (references, dim, height, width)."""

    graph: Path
    head: WindowSearch
    banks: list[npt.NDArray[np.float64]]


def write_query_graph(path: Path, *, outside: int = 0, nan: bool = False) -> None:
    """Query tensors of two sizes, the references that go best with the mean colour, a weight."""
    random = np.random.default_rng(3)
    make, info = helper.make_node, helper.make_tensor_value_info
    nodes = [
        make("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        make("Div", ["float", "full"], ["scaled"]),
        make("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        make("Conv", ["planes", "fine"], ["query_0"], pads=[1] * 4),
        make("Conv", ["planes", "coarse"], ["query_1"], pads=[1] * 4, strides=[2, 2]),
        make("ReduceMean", ["planes", "axes"], ["means"], keepdims=0),
        make("MatMul", ["means", "likeness"], ["alike"]),
        make("TopK", ["alike", "nearest"], ["best", "indices"], axis=1),
        make("Add", ["indices", "outside"], ["moved"]),
        make("Cast", ["moved"], ["references"], to=TensorProto.INT32),
        make("ReduceMax", ["planes", "channel"], ["weight"], keepdims=1),
    ]
    fine = random.normal(size=(DIM, 3, 3, 3)).astype(np.float32)
    if nan:
        fine[2, 1, 0, 0] = np.nan
    constants = {
        "full": np.float32(255),
        "fine": fine,
        "coarse": random.normal(size=(DIM, 3, 3, 3)).astype(np.float32),
        "axes": np.array([2, 3]),
        "channel": np.array([1]),
        "likeness": random.normal(size=(3, REFERENCES)).astype(np.float32),
        "nearest": np.array([NEAREST]),
        "outside": np.array([outside]),
    }
    queries = [info(f"query_{i}", TensorProto.FLOAT, [1, DIM, *level[:2]]) for i, level in enumerate(LEVELS)]
    graph = helper.make_graph(
        nodes,
        "query",
        [info("image", TensorProto.UINT8, [1, *SIZE, 3])],
        [
            *queries,
            info("references", TensorProto.INT32, [1, NEAREST]),
            info("weight", TensorProto.FLOAT, [1, 1, *SIZE]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Write what a lowering writes; `graph.onnx` itself is of no account here."""

    def make_one(bank_type: str = "fp32", **graph: object) -> Made:
        random = np.random.default_rng(5)
        banks = []
        for height, width, _ in LEVELS:
            bank = random.normal(size=(REFERENCES, DIM, height, width))
            banks.append((bank / np.linalg.norm(bank, axis=1, keepdims=True)).astype(np.float32))
        path = tmp_path / "graph.onnx"
        path.write_bytes((GOLDEN / "graph.onnx").read_bytes())
        write_query_graph(query_path(path), **graph)  # type: ignore[arg-type]
        head = write_head(
            path,
            banks,
            [level[2] for level in LEVELS],
            nearest=NEAREST,
            grid=GRID,
            weighted=True,
            bank_type=bank_type,  # type: ignore[arg-type]
        )
        stored = {
            "fp32": lambda bank: bank,
            "fp16": lambda bank: bank.astype(np.float16),
            "int8": lambda bank: np.rint(bank.astype(np.float64) * 127) / 127,
        }[bank_type]
        return Made(path, head, [stored(bank).astype(np.float64) for bank in banks])

    return make_one


def compiled(made: Made, engine: str, precision: str = "fp32") -> CompiledTarget:
    target = Target.parse(f"{engine}:{precision}")
    return exporter_for(engine).compile(made.graph, target, made.graph.parent / "targets")


def image_of(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)


def queries_of(made: Made, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
    """The query graph's outputs by ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(query_path(made.graph)), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def interpolated(values: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """By torch, in float64."""
    torch = pytest.importorskip("torch")
    made: npt.NDArray[np.float64] = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    return made


def expected_map(made: Made, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The definition, cell by cell."""
    outputs = queries_of(made, image)
    total = np.zeros(SIZE)
    for i, (height, width, window) in enumerate(LEVELS):
        query = outputs[f"query_{i}"][0].astype(np.float64)
        near = made.banks[i][outputs["references"][0]]
        distance, radius = np.empty((height, width)), window // 2
        for y in range(height):
            for x in range(width):
                around = near[:, :, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
                best = np.einsum("kcrs,c->krs", around, query[:, y, x]).max()
                distance[y, x] = 1 - best / (np.linalg.norm(query[:, y, x]) + 1e-8)
        total += interpolated(distance, SIZE)
    weight = outputs["weight"][0, 0].astype(np.float64)
    return interpolated(total, GRID) * interpolated(weight, GRID)


@pytest.mark.parametrize("bank_type", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_map_is_the_definitions(make: Callable[..., Made], engine: str, bank_type: str) -> None:
    made = make(bank_type)
    entry = compiled(made, engine)
    with runtime_for(engine).open(entry.main_file, entry.target, threads=1) as runtime:
        assert runtime.input_shape == (1, *SIZE, 3)
        for seed in (0, 1, 0):
            output = runtime.infer(image_of(seed))
            assert output.image_score is None
            assert output.anomaly_map.shape == (1, 1, *GRID)
            assert output.anomaly_map.dtype == np.float32
            assert np.abs(output.anomaly_map[0, 0] - expected_map(made, image_of(seed))).max() < 2e-5


def test_bf16_is_the_same_files(make: Callable[..., Made]) -> None:
    made = make()
    first, second = compiled(made, ENGINES[0]), compiled(made, ENGINES[0], "bf16")
    assert first.files == second.files
    assert first.head == second.head == json.loads(query_path(made.graph).with_name("head.json").read_text())


def test_both_engines_are_found_and_drive_their_own_packages() -> None:
    for engine in ENGINES:
        inner = engine.split("+")[0]
        assert engines()[engine] == engines()[inner]
        assert library_for(engine) == library_for(inner)
        assert Target.parse(f"{engine}:fp32").slug == f"{engine}-fp32"


def test_a_nan_in_a_query_is_a_nan_in_the_map(make: Callable[..., Made]) -> None:
    made = make(nan=True)
    entry = compiled(made, ENGINES[1])
    with runtime_for(ENGINES[1]).open(entry.main_file, entry.target) as runtime:
        found = runtime.infer(image_of()).anomaly_map[0, 0]
    query = queries_of(made, image_of())["query_0"][0]
    assert np.isnan(
        query[2, 1:, 1:]
    ).all()  # the weight that is NaN sees padding at the upper and left border
    assert np.isnan(found[2:, 2:]).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("outside", [REFERENCES, -REFERENCES])
def test_an_index_outside_the_bank_is_an_engine_error(
    make: Callable[..., Made], engine: str, outside: int
) -> None:
    entry = compiled(make(outside=outside), engine)
    with (
        runtime_for(engine).open(entry.main_file, entry.target, threads=1) as runtime,
        pytest.raises(EngineError, match=r"the bank has 0 \.\. 8; export the MODEL again"),
    ):
        runtime.infer(image_of())


def changed_head(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weighted": False}, "asks for query_0, query_1, references; export"),
        ({"nearest": 3}, r"output references is \[1, 4\], head.json says \[1, 3\]"),
        ({"dim": 5}, "bytes, its shape asks for"),
        ({"window": 3, "levels": []}, "0 levels, must be 1 to 8"),
        ({"nearest": 0}, "nearest is 0 of 9"),
        ({"bank_type": "int4"}, "must be one of fp32, fp16, int8"),
        ({"weighted": 1}, "must be true or false"),
        ({"bank_type": "fp16"}, "bytes, its shape asks for"),
    ],
    ids=str,
)
def test_a_head_that_does_not_fit_is_refused(
    make: Callable[..., Made], changes: dict[str, object], message: str
) -> None:
    entry = compiled(make(), ENGINES[0])
    changed_head(entry.main_file.with_name("head.json"), **changes)
    with pytest.raises(EngineError, match=message):
        runtime_for(ENGINES[0]).open(entry.main_file, entry.target)


def test_missing_files_are_named(make: Callable[..., Made], tmp_path: Path) -> None:
    made = make()
    entry = compiled(made, ENGINES[0])
    bank = made.graph.parent / made.head.levels[1].bank_file
    content = bank.read_bytes()
    bank.write_bytes(np.float32(7).tobytes() + content[4:])
    with pytest.raises(EngineError, match="no part of a vector of length 1; export the MODEL again"):
        runtime_for(ENGINES[0]).open(entry.main_file, entry.target)
    bank.unlink()
    with pytest.raises(UsageError, match=r"level1\.bin: not all lie in one folder above"):
        runtime_for(ENGINES[0]).open(entry.main_file, entry.target)
    entry.main_file.with_name("head.json").unlink()
    with pytest.raises(UsageError, match=r"head\.json does not exist: model\.xml stops at query tensors"):
        runtime_for(ENGINES[0]).open(entry.main_file, entry.target)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_detector_without_a_head_has_no_such_target(tmp_path: Path, engine: str) -> None:
    graph = tmp_path / "graph.onnx"
    graph.write_bytes((GOLDEN / "graph.onnx").read_bytes())
    with pytest.raises(UsageError, match="this detector has no window_search head"):
        exporter_for(engine).compile(graph, Target(engine, "fp32"), tmp_path / "targets")


def test_banks_that_no_reader_takes_are_not_written(tmp_path: Path) -> None:
    bank = np.full((2, 1, 3, 3), 0.5, np.float32)

    def write(*banks: npt.NDArray[np.float32], windows: tuple[int, ...] = (1,), nearest: int = 1) -> None:
        write_head(tmp_path / "graph.onnx", banks, windows, nearest=nearest, grid=GRID, weighted=False)

    write(bank)
    for banks, windows, nearest, message in [
        ([bank * 3], (1,), 1, "normalise over dim"),
        ([bank * np.nan], (1,), 1, "normalise over dim"),
        ([bank], (2,), 1, "must be odd"),
        ([bank], (1,), 3, "nearest is 3 of 2"),
        ([bank, bank[:1]], (1, 1), 1, "do not fit"),
        ([bank], (1, 1), 1, "do not fit"),
    ]:
        with pytest.raises(InternalError, match=message):
            write(*banks, windows=windows, nearest=nearest)


class Identity:
    """A map operator that changes nothing."""

    def __init__(self, size: int) -> None:
        self.cols = size
        self.start = np.arange(size, dtype=np.int32)
        self.weights = np.ones((size, 1), np.float32)


@pytest.fixture
def bundle(make: Callable[..., Made], tmp_path: Path) -> Path:
    """A bundle with one target, whose golden values are NumPy's."""
    made, path = make("fp16"), tmp_path / "head.edgead"
    entry = compiled(made, ENGINES[0])
    sound = Manifest.from_json((GOLDEN / "manifest.json").read_bytes())
    image = image_of(7)
    anomaly_map = expected_map(made, image).astype(np.float32)
    target = dataclasses.replace(
        sound.targets[0],
        target=str(entry.target),
        engine=entry.target.engine,
        main_file=entry.main_file.relative_to(tmp_path).as_posix(),
        files=tuple(file.relative_to(tmp_path).as_posix() for file in entry.files),
        thresholds=dataclasses.replace(
            sound.targets[0].thresholds, image=1.0, image_median=0.5, pixel=1.0, pixel_median=0.5
        ),
        score_tolerance=1e-4,
        map_tolerance=1e-4,
        head=entry.head,
    )
    with BundleWriter(path) as writer:
        for name in (*sound.reports, sound.graph.file):
            writer.add_file(name, GOLDEN / name)
        for name in target.files:
            writer.add_file(name, tmp_path / name)
        writer.add_file("golden/good.png", cv2.imencode(".png", image[0, :, :, ::-1])[1].tobytes())
        writer.add_map("golden/good.map.f32", anomaly_map)
        graph = dataclasses.replace(
            sound.graph,
            input=dataclasses.replace(sound.graph.input, shape=(1, *SIZE, 3)),
            outputs=(dataclasses.replace(sound.graph.outputs[0], shape=(1, 1, *GRID)),),
        )
        golden = dataclasses.replace(
            sound.golden[0],
            file="golden/good.png",
            expected=(
                GoldenExpectation(
                    target=target.target, score_raw=float(anomaly_map.max()), map_file="golden/good.map.f32"
                ),
            ),
        )
        writer.finish(
            dataclasses.replace(
                sound,
                geometry=Geometry(height=SIZE[0], width=SIZE[1]),
                post=PostRecipe(grid=GRID, output=GRID),
                operator=writer.add_operator(Identity(GRID[0]), Identity(GRID[1])),
                graph=graph,
                targets=(target,),
                golden=(golden,),
            )
        )
    return path


def test_libedgead_and_python_say_the_same_of_a_frame(bundle: Path) -> None:
    with (
        open_bundle(bundle) as opened,
        Session.open(opened, threads=1, runtime="native") as native,
        Session.open(opened, threads=1, runtime="python") as python,
    ):
        assert str(native.target) == "openvino+window_search:fp32"
        for seed in range(5):
            frame = Frame(np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8), "RGB8")
            left, right = native.predict(frame), python.predict(frame)
            assert left.anomaly_map.tobytes() == right.anomaly_map.tobytes()
            assert (left.score_raw, left.decision, left.regions) == (
                right.score_raw,
                right.decision,
                right.regions,
            )
            assert math.isfinite(left.score_raw)


def test_a_bank_of_another_size_makes_a_bad_bundle(bundle: Path) -> None:
    bank, hashes = bundle / "heads/window_search/level0.bin", bundle / "MANIFEST.sha256"
    before = sha256_file(bank)
    bank.write_bytes(bank.read_bytes()[:-2])
    text = hashes.read_text().replace(
        before.removeprefix("sha256:"), sha256_file(bank).removeprefix("sha256:")
    )
    hashes.write_text(text)
    with pytest.raises(BundleError, match=r"level0\.bin has .* bytes, its shape asks for"):
        open_bundle(bundle)


def test_the_files_may_be_a_zip(bundle: Path, tmp_path: Path) -> None:
    from edgead.bundle.writer import pack

    path = tmp_path / "head.zip"
    pack(bundle, path)
    shutil.rmtree(bundle)
    with open_bundle(path) as opened, Session.open(opened, threads=1, runtime="python") as session:
        assert session.scores_of(image_of()).anomaly_map.shape == GRID
