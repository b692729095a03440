"""Light PatchCore and CPR from images to a bundle with targets on a GPU, and their sessions on a stand-in.

ONNX Runtime's CPU is the network; kernels and pipeline run on the CPU, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgead._native.model import NativeModel
from edgead.bundle.reader import open_bundle
from edgead.detectors._presets import PRESETS
from edgead.imaging.frame import Frame
from edgead.runtimes import ort_runtime
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.runtimes.session import Session
from edgead.types import Prediction, Thresholds
from edgead.workflows.export import export
from edgead.workflows.train import train

LIGHT: dict[str, dict[str, Any]] = {
    "patchcore": {
        "detector": "patchcore",
        "summary": "64×64, for tests",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage3", "stage5"],
            "geometry": {"height": 64, "width": 64},
        },
        "training": {"share": 0.2, "projection": 32},
    },
    "cpr": {
        "detector": "cpr",
        "summary": "80×80, for tests",
        "config": {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3"],
            "dim": 8,
            "nearest": 4,
            "top_k": 32,
            "geometry": {"height": 80, "width": 80, "resampler": "opencv_linear"},
        },
        "training": {"steps": 2, "texture_steps": 2, "batch": 2, "save_every": 2},
    },
}


@pytest.fixture
def on_the_stand_in(stand_in: Any, host_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's sessions for the GPU compute on the CPU, with their tensors in the stand-in's memory."""
    monkeypatch.setattr(OnnxRuntime, "provider_of", lambda *_: "CPUExecutionProvider")

    def engine(session: Any, graph: Path, outputs: Any, kind: str, index: int, stream: int) -> Any:
        assert (kind, index, stream) == ("cuda", 0, stand_in.host.stream)
        return host_engine(graph, stand_in.host, outputs=outputs)

    monkeypatch.setattr(ort_runtime, "OrtEngine", engine)


def assert_close(cuda: Prediction, python: Prediction, limits: Thresholds) -> None:
    """A distance may round to the next float, and with it what follows."""
    step = 1e-6 * float(np.abs(python.anomaly_map).max())
    np.testing.assert_allclose(cuda.anomaly_map, python.anomaly_map, rtol=0, atol=step)
    apart = cuda.mask != python.mask
    assert (np.abs(python.anomaly_map[apart] - limits.pixel) <= step).all()
    assert np.abs(cuda.heatmap.astype(int) - python.heatmap).max() <= 1
    assert cuda.score_raw == pytest.approx(python.score_raw, rel=1e-6)
    assert cuda.decision == python.decision


def assert_same(cuda: Prediction, python: Prediction, *, rounded: bool) -> None:
    """The same bits; a score of exponentials may round to the next float."""
    for name in ("anomaly_map", "heatmap", "mask"):
        np.testing.assert_array_equal(getattr(cuda, name), getattr(python, name), err_msg=name)
    if rounded:
        assert cuda.score_raw == pytest.approx(python.score_raw, rel=2e-7)
    else:
        assert cuda.score_raw == python.score_raw
    assert (cuda.decision, cuda.regions) == (python.decision, python.regions)
    assert np.isfinite(cuda.score_raw)


@dataclass(frozen=True)
class Light:
    """A bundle of a search's engine on the CPU, and on a GPU, where nobody has seen it."""

    bundle: Path
    search: str
    scored: bool

    def target(self, rest: str) -> str:
        return f"onnxruntime+{self.search}:{rest}"


@pytest.fixture(
    scope="module",
    params=[
        ("patchcore", "bank_search", {"neighbours": 0}),
        ("patchcore", "bank_search", {"neighbours": 3}),
        ("cpr", "window_search", {"bank_type": "fp16"}),
    ],
    ids=["patchcore", "patchcore with neighbours", "cpr"],
)
def light(spine: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Light:
    """From images to the bundle, for each search."""
    name, search, changes = request.param
    folder = tmp_path_factory.mktemp("light")
    made = Light(folder / "b.edgead", search, scored=bool(changes.get("neighbours")))
    preset = LIGHT[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "light", preset | {"config": preset["config"] | changes})
        train("light", spine.data, folder / "m")
    report = export(
        folder / "m",
        made.bundle,
        calib=spine.data,
        targets=[made.target("fp32")],
        unverified=[made.target("fp32:cuda"), made.target("fp16:cuda")],
        accept=True,
        threads=1,
    )
    assert [target.verified for target in report.targets.values()] == [True, False, False]
    return made


@pytest.mark.usefixtures("on_the_stand_in")
def test_a_bundle_says_on_the_gpu_what_it_says_on_the_cpu(light: Light) -> None:
    with (
        open_bundle(light.bundle) as bundle,
        Session.open(bundle, light.target("fp32:cuda")) as cuda,  # proves itself on the golden images
        Session.open(bundle, light.target("fp32"), runtime="python", threads=1) as python,
    ):
        assert cuda.runtime == "cuda"
        assert cuda._driver.pipeline.why_plain == {}  # type: ignore[attr-defined]
        python.thresholds = cuda.thresholds
        for seed in range(3):
            pixels = np.random.default_rng(seed).integers(0, 256, (90 + seed, 130, 3), np.uint8)
            frame = Frame(pixels, "BGR8")
            found, expected = cuda.predict(frame), python.predict(frame)
            if light.search == "bank_search":
                assert_same(found, expected, rounded=light.scored)
            else:
                assert_close(found, expected, cuda.thresholds)
        black = Frame(np.zeros((70, 70), np.uint8), "MONO8")
        np.testing.assert_allclose(cuda.predict(black).score_raw, python.predict(black).score_raw, rtol=1e-6)


def test_the_fp16_form_of_a_query_graph_is_in_the_bundle_with_its_head(light: Light) -> None:
    with open_bundle(light.bundle) as bundle:
        half, single = (bundle.entry(light.target(rest)) for rest in ("fp16:cuda", "fp32:cuda"))
        assert Path(half.main_file).name == "query.fp16.onnx"
        assert half.head == single.head == bundle.entry(light.target("fp32")).head
        assert set(half.files) - {half.main_file} == set(single.files) - {single.main_file}
        model = onnx.load(bundle.path(half.main_file))
        assert {one.type.tensor_type.elem_type for one in model.graph.output} <= {
            TensorProto.FLOAT,
            TensorProto.INT32,
        }
        assert TensorProto.FLOAT16 in {one.data_type for one in model.graph.initializer}
        native = NativeModel(light.bundle, without_engine=True)
        assert native.info.targets == tuple(bundle.targets)
        native.close()
        for image in bundle.manifest.golden:
            scores = {one.target: one.score_raw for one in image.expected}
            single_score, half_score = scores[light.target("fp32:cuda")], scores[light.target("fp16:cuda")]
            assert single_score == scores[light.target("fp32")]
            assert half_score != single_score
            assert half_score == pytest.approx(single_score, rel=0.1)
