"""Plans of TensorRT-RTX from the float, the fp16 and the Q/DQ graph of every detector, built without a GPU.

The fp16 graph is run in ONNX Runtime beside the float one, its roundings written out: what a GPU computes,
but for the order of sums.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgead.calibration.int8 import Range
from edgead.detectors._base import Detector
from edgead.detectors._presets import PRESETS
from edgead.detectors._registry import detector_class, names
from edgead.discovery import load
from edgead.errors import BundleError, EngineError, OutputError, RuntimeMissingError, UsageError
from edgead.exporters._half import half
from edgead.exporters._half_rounded import rounded
from edgead.exporters._qdq import TENSORRT, Int8Recipe, encode, layers, observed, pixel_tensors
from edgead.exporters._registry import exporter_for
from edgead.exporters._tensorrt import TensorRTOptions, write_cache
from edgead.exporters.onnx_exporter import export_graph
from edgead.exporters.tensorrt_exporter import TensorRTExporter
from edgead.exporters.tensorrt_rtx_exporter import TensorRTRtxExporter
from edgead.runtimes._tensorrt import IDENTITY, TENSORRT_RTX, EngineIdentity, device_index
from edgead.types import Target

# The bare name is the light preset. Of its config, only what makes weights and pixels few.
SMALLER: dict[str, dict[str, Any]] = {
    "efficientad": PRESETS["efficientad_edge"]["config"],
    "patchcore": {"vectors": 60, "neighbours": 4},
    "cpr": {"references": 11},
}
SIDES = {"efficientad": 256, "cpr": 160}
# Of the map's range, on random weights; half precision rounds to 5e-4.
HALF_ERROR = 5e-3


def detector_of(name: str) -> Detector:
    """The light preset with random weights and, where it has some, a random memory."""
    config = PRESETS[name]["config"] | SMALLER.get(name, {})
    side = SIDES.get(name, 128)
    geometry = {**config["geometry"], "height": side, "width": side}
    torch.manual_seed(0)
    detector = detector_class(name).from_config(config | {"geometry": geometry}).eval()
    with torch.no_grad():
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
        for key, buffer in detector.named_buffers():
            if "." not in key and buffer.is_floating_point() and key != "inv_covariance":
                values = torch.randn(buffer.shape)
                scale = values.norm(dim=1, keepdim=True) if buffer.ndim == 4 else 1.0
                buffer.copy_(values.abs() / 10 if key == "histograms" else values / scale)
    return detector


@pytest.fixture(scope="module")
def graph_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(name: str) -> Path:
        detector = detector_of(name)
        lowering = load("edgead.exporters.lowering", name)
        path = tmp_path_factory.mktemp(name) / "graph.onnx"
        size = detector.geometry.input_size
        export_graph(lowering.lower(detector), size, path, metadata={"edgead.detector": name})
        return path

    return make


def recipe_of(name: str) -> Int8Recipe:
    recipe: Int8Recipe = getattr(load("edgead.exporters.lowering", name), "INT8", Int8Recipe())
    return recipe


def outputs(graph: Path, image: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(None, {"image": image})]


def images(graph: Path) -> list[np.ndarray]:
    shape = [entry.dim_value for entry in onnx.load(graph).graph.input[0].type.tensor_type.shape.dim]
    noise = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    return [noise, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)]


@pytest.mark.parametrize("name", names())
def test_the_fp16_form_computes_what_the_float_graph_does(name: str, graph_of: Any) -> None:
    graph = graph_of(name)
    path = rounded(half(graph, recipe_of(name), graph.parent))
    for image in images(graph):
        for exact, found in zip(outputs(graph, image), outputs(path, image), strict=True):
            assert found.dtype == np.float32
            scale = max(float(np.ptp(exact)), 1e-3 * float(np.abs(exact).max()))
            assert 0 < np.abs(found - exact).max() <= HALF_ERROR * max(scale, float(np.abs(exact).mean()))


@pytest.mark.parametrize("name", names())
def test_fp16_halves_the_weights_of_products_and_spares_what_ranks(name: str, graph_of: Any) -> None:
    graph = graph_of(name)
    model = onnx.shape_inference.infer_shapes(onnx.load(half(graph, recipe_of(name), graph.parent)))
    kinds = {entry.name: entry.data_type for entry in model.graph.initializer}
    kinds |= {entry.name: entry.type.tensor_type.elem_type for entry in model.graph.value_info}
    convs = [kinds[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert convs.count(onnx.TensorProto.FLOAT16) >= 0.8 * len(convs)
    exact = {"Sub", "Pow", "ReduceSum", "Sqrt", "Div", "Exp", "Softmax", "TopK", "InstanceNormalization"}
    for node in model.graph.node:
        if node.op_type in exact or recipe_of(name).needs_float(node.name):
            assert onnx.TensorProto.FLOAT16 not in {kinds.get(value) for value in node.input}, node.name


def quantised(name: str, graph: Path) -> Path:
    """The Q/DQ graph with a table of plausible ranges: a build does not look at accuracy."""
    model = onnx.load(graph)
    ranges = dict.fromkeys(observed(model.graph), Range(-6.0, 6.0)) | pixel_tensors(model.graph)
    return encode(graph, ranges, layers(graph, recipe_of(name)), TENSORRT)


def build(graph: Path, precision: str, folder: Path, **options: Any) -> Path:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    target = Target.parse(f"tensorrt_rtx:{precision}:cuda")
    return TensorRTRtxExporter(TensorRTOptions(**options)).compile(graph, target, folder).main_file


@pytest.mark.parametrize("name", names())
def test_rtx_builds_every_detector_in_every_precision(name: str, graph_of: Any, tmp_path: Path) -> None:
    graph = graph_of(name)
    plans = {
        "fp32": build(graph, "fp32", tmp_path),
        "fp16": build(half(graph, recipe_of(name), graph.parent), "fp16", tmp_path),
        "int8": build(quantised(name, graph), "int8", tmp_path),
    }
    sizes = {precision: plan.stat().st_size for precision, plan in plans.items()}
    assert min(sizes.values()) > 10_000
    for plan in plans.values():
        identity = EngineIdentity.read(plan)
        assert identity.engine == "tensorrt_rtx"
        assert identity.detector == name
        assert identity.features == ("sm_80+",)
        assert plan.with_name("build.log").is_file()


def test_a_plan_for_named_gpus_says_so_and_the_library_puts_them_in(graph_of: Any, tmp_path: Path) -> None:
    one = build(graph_of("simplenet"), "fp32", tmp_path / "one", compute_capabilities=("8.6",))
    two = build(graph_of("simplenet"), "fp32", tmp_path / "two", compute_capabilities=("7.5", "8.9"))
    assert EngineIdentity.read(two).features == ("sm_75", "sm_89")
    assert EngineIdentity.read(one).compute_capabilities == ("8.6",)
    assert two.stat().st_size > 1.5 * one.stat().st_size


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compute_capabilities": ("8.7",)}, r"8\.7.*does not build for it"),
        ({"compute_capabilities": ("sm_86",)}, "sm_86.*write it as 8.6"),
        ({"compatibility": "ampere_plus"}, "name compute capabilities instead"),
        ({"timing_cache": Path("rtx.cache")}, "a timing cache is for tensorrt"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], told: str, graph_of: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        build(graph_of("simplenet"), "fp32", tmp_path, **options)


def test_graphs_that_the_library_refuses_are_told_with_their_node(graph_of: Any, tmp_path: Path) -> None:
    model = onnx.load(graph_of("simplenet"))
    for node in model.graph.node:
        if node.op_type == "LeakyRelu":
            node.op_type, node.domain = "Nonsense", "ai.example"
    model.opset_import.append(onnx.helper.make_opsetid("ai.example", 1))
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(EngineError, match=r"cannot read graph\.onnx.*LeakyRelu"):
        build(tmp_path / "graph.onnx", "fp32", tmp_path)
    assert "ERROR" in (tmp_path / "tensorrt_rtx-fp32-cuda" / "build.log").read_text()
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match="is no ONNX graph"):
        build(tmp_path / "graph.onnx", "fp32", tmp_path)


def test_missing_packages_say_what_to_install_and_that_onnx_is_good(
    graph_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine, extra in (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")):
        monkeypatch.setitem(sys.modules, engine, None)
        with pytest.raises(RuntimeMissingError, match=rf"edgead\[{extra}\].*onnxruntime runs graph"):
            exporter_for(engine).compile(graph_of("simplenet"), Target.parse(f"{engine}:fp32:cuda"), tmp_path)


def test_targets_without_a_gpu_in_their_name_are_refused(graph_of: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="write tensorrt_rtx:fp32:cuda"):
        exporter_for("tensorrt_rtx").compile(
            graph_of("simplenet"), Target.parse("tensorrt_rtx:fp32"), tmp_path
        )
    assert device_index(Target("tensorrt", "fp16", "cuda")) == 0
    assert device_index(Target("tensorrt", "fp16", "cuda1")) == 1
    options = TensorRTOptions(compute_capabilities=("8.6",))
    with pytest.raises(UsageError, match="compute capabilities are named to tensorrt_rtx"):
        TensorRTExporter(options).choose_devices(None, None, 0)


class Cache:
    """A builder's configuration that keeps what it is given as a timing cache."""

    def __init__(self, takes: bool) -> None:
        self.takes, self.given = takes, b""

    def create_timing_cache(self, data: bytes) -> Cache:
        self.given = data
        return self

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch, "of another GPU: other kernels would be chosen"
        return self.takes


def test_a_timing_cache_is_read_where_it_is_and_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "orin.cache"
    exporter, config = TensorRTExporter(TensorRTOptions(timing_cache=file)), Cache(takes=True)
    exporter._read_cache(config)
    assert config.given == b""
    write_cache(file, b"measured")
    exporter._read_cache(config)
    assert config.given == b"measured"
    with pytest.raises(UsageError, match=r"orin\.cache is of another TensorRT or GPU; delete it"):
        exporter._read_cache(Cache(takes=False))
    with pytest.raises(OutputError, match=r"timing cache .*cannot be written"):
        write_cache(file / "below", b"")


IDENTITY_HERE = EngineIdentity(
    engine="tensorrt_rtx",
    engine_version="1.7.1",
    machine="x86_64",
    device="any",
    compute_capabilities=("8.6", "12.0"),
    least="8.0",
    detector="cpr",
)


def test_identity_says_where_a_plan_may_run(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    with pytest.raises(EngineError, match=IDENTITY):
        EngineIdentity.read(plan)
    (tmp_path / IDENTITY).write_bytes(IDENTITY_HERE.to_json())
    identity = EngineIdentity.read(plan)
    assert identity == IDENTITY_HERE
    assert identity.features == ("sm_86", "sm_120")
    identity.check_host("tensorrt_rtx", "1.7.1", "x86_64")
    with pytest.raises(EngineError, match=r"built by tensorrt_rtx 1\.7\.1, here is 1\.6.*install"):
        identity.check_host("tensorrt_rtx", "1.6", "x86_64")
    with pytest.raises(
        EngineError, match=r"for x86_64, here is tensorrt_rtx on aarch64.*again on this machine"
    ):
        identity.check_host("tensorrt_rtx", "1.7.1", "aarch64")
    for capability in ((8, 6), (12, 0)):
        identity.check_device("GPU", capability)
    with pytest.raises(EngineError, match=r"sm_86, sm_120.*GPU, is sm_89; export again"):
        identity.check_device("GPU", (8, 9))
    later = replace(identity, compute_capabilities=())
    later.check_device("GPU", (9, 0))
    with pytest.raises(EngineError, match=r"sm_80\+.*sm_75"):
        later.check_device("GPU", (7, 5))


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"least": "eight"}, {"compute_capabilities": 8}, {"extra": 1}], ids=str
)
def test_damaged_identities_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    values = json.loads(IDENTITY_HERE.to_json())
    (tmp_path / IDENTITY).write_text(json.dumps(values | change))
    with pytest.raises(BundleError, match=IDENTITY):
        EngineIdentity.read(tmp_path / "model.plan")


def test_the_package_knows_its_names() -> None:
    assert (TENSORRT_RTX.engine, TENSORRT_RTX.install) == ("tensorrt_rtx", "edgead[tensorrt-rtx]")
