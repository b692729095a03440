"""Targets that are built here and cannot run here, from MODEL to bundle, and on a device that has them.

A GPU is played by ONNX Runtime's CPU: it runs the graph of ``onnxruntime:fp16:cuda``, which is in the bundle.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgead._native.model import NativeModel
from edgead.bundle.reader import open_bundle
from edgead.errors import EngineError, GateFailed, RuntimeMissingError, UsageError
from edgead.exporters._tensorrt import TensorRTOptions
from edgead.imaging.frame import read_image
from edgead.runtimes._tensorrt import EngineIdentity
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.runtimes.session import Session
from edgead.types import Target
from edgead.workflows import _gates
from edgead.workflows.export import ExportReport, export
from edgead.workflows.inspection import inspect
from edgead.workflows.run import run
from edgead.workflows.self_test import self_test
from edgead.workflows.verify import verify

ORT, CUDA = "onnxruntime:fp32", "onnxruntime:fp16:cuda"
HALF, EIGHT = "tensorrt_rtx:fp16:cuda", "tensorrt_rtx:int8:cuda"


class Said:
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def task(self, name: str, total: int | None) -> Any:
        from edgead.progress import Silent

        return Silent().task(name, total)


@pytest.fixture(scope="module")
def plans(spine: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bundle with plans of TensorRT-RTX, for one GPU, and what `export` said of it."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    folder, said = tmp_path_factory.mktemp("plans"), Said()
    options = TensorRTOptions(compute_capabilities=("8.6",), workspace_bytes=1 << 28)
    # What is trained in two epochs on 32×32 pixels flips a decision in 8 bits.
    report = export(
        tiny_model,
        folder / "b.edgead",
        calib=spine.data,
        targets=[ORT],
        unverified=[HALF, EIGHT],
        tensorrt=options,
        accept=True,
        threads=1,
        progress=said,
    )
    return report, said.lines, folder


@pytest.fixture(scope="module")
def typed(spine: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """A bundle whose unverified target is a graph that a test can run."""
    bundle = tmp_path_factory.mktemp("typed") / "b.edgead"
    return export(tiny_model, bundle, calib=spine.data, targets=[ORT], unverified=[CUDA], accept=True)


@pytest.fixture
def on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime finds its CUDA provider, which is the CPU's."""
    monkeypatch.setattr(OnnxRuntime, "provider_of", lambda *_: "CPUExecutionProvider")


def entry_of(bundle: Path, target: str) -> dict[str, Any]:
    targets = json.loads((bundle / "manifest.json").read_text())["targets"]
    entry: dict[str, Any] = next(one for one in targets if one["target"] == target)
    return entry


def test_the_bundle_says_which_targets_nobody_has_seen(plans: Any) -> None:
    report, said, folder = plans
    assert {name: target.verified for name, target in report.targets.items()} == {
        ORT: True,
        HALF: False,
        EIGHT: False,
    }
    assert "verified" not in entry_of(report.bundle, ORT)
    for name in (HALF, EIGHT):
        assert entry_of(report.bundle, name)["verified"] is False
        assert any(line.startswith(f"{name} cannot run here: not verified") for line in said)
        plan = folder / "b.edgead" / entry_of(report.bundle, name)["main_file"]
        assert EngineIdentity.read(plan).compute_capabilities == ("8.6",)
        assert entry_of(report.bundle, name)["identity"]["features"] == ["sm_86"]
        assert report.targets[name].size_bytes > plan.stat().st_size > 10_000
    written = json.loads((report.bundle / "reports" / "export.json").read_text())
    assert [written[name]["verified"] for name in (ORT, HALF, EIGHT)] == [True, False, False]
    with open_bundle(report.bundle) as bundle:
        assert [entry.verified for entry in bundle.manifest.targets] == [True, False, False]
    native = NativeModel(report.bundle, without_engine=True)
    assert native.info.targets == (ORT, HALF, EIGHT)
    native.close()


def test_values_are_those_of_the_typed_graph_judged_against_the_model(plans: Any) -> None:
    """Rounding shows in both; each has its own limits."""
    report, _, _ = plans
    shifts = [report.targets[name].parity.shift_p50 for name in (ORT, HALF, EIGHT)]
    assert 0 < shifts[0] < 0.01 * min(shifts[1:])
    assert max(shifts) < 0.25 * report.targets[ORT].parity.score_range
    limits = [report.targets[name].thresholds.image for name in (ORT, HALF, EIGHT)]
    assert len(set(limits)) == 3
    assert (report.bundle / "reports" / "int8_calibration.json").is_file()


def test_golden_values_are_of_the_fp16_graph(typed: ExportReport) -> None:
    manifest = json.loads((typed.bundle / "manifest.json").read_text())
    graph = typed.bundle / entry_of(typed.bundle, CUDA)["main_file"]
    assert graph.name == "graph.fp16.onnx"
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    for image in manifest["golden"]:
        pixels = read_image(typed.bundle / image["file"]).data[None, :, :, ::-1]
        grid = session.run(["anomaly_map"], {"image": np.ascontiguousarray(pixels)})[0]
        scores = {one["target"]: one["score_raw"] for one in image["expected"]}
        assert manifest["post"]["score_rule"] == "max_grid"
        # On this CPU ONNX Runtime rounds the weights alone.
        assert scores[CUDA] == pytest.approx(float(grid.max()), rel=1e-2)
        assert scores[CUDA] != scores[ORT]


def test_a_gate_that_the_graph_misses_writes_nothing(
    spine: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_gates.GATES, "fp16", _gates.Gate(flips=0.0, score_shift=-1.0, auroc_drop=0.0))
    with pytest.raises(GateFailed, match=r"onnxruntime:fp16:cuda: a score moved by"):
        export(tiny_model, tmp_path / "b", calib=spine.data, targets=[ORT], unverified=[CUDA])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("targets", "unverified", "options", "error", "told"),
    [
        ([HALF], [], None, RuntimeMissingError, f"no NVIDIA driver.*--unverified {HALF}"),
        ([CUDA], [], None, RuntimeMissingError, f"no CUDA provider.*--unverified {CUDA}"),
        ([], [HALF], None, UsageError, "no target that runs here"),
        ([ORT], [ORT], None, UsageError, "named twice"),
        ([ORT], ["onnxruntime:int8"], None, UsageError, "cannot be built unverified: only a target on a GPU"),
        ([ORT], ["openvino:fp16"], None, UsageError, "openvino targets come in"),
        ([ORT], ["openvino+bank_search:fp32:gpu"], None, UsageError, "cannot be built unverified"),
        ([ORT], ["tensorrt_rtx:fp16"], None, EngineError, "write tensorrt_rtx:fp16:cuda"),
        ([ORT], [HALF], TensorRTOptions(compute_capabilities=("8.7",)), UsageError, r"8\.7: this library"),
        ([ORT], [HALF], TensorRTOptions(compute_capabilities=("86",)), UsageError, r"write it as 8\.6"),
        (
            [ORT],
            [HALF],
            TensorRTOptions(compatibility="ampere_plus"),
            UsageError,
            "name compute capabilities",
        ),
        ([ORT], [HALF], TensorRTOptions(timing_cache=Path("c")), UsageError, "measures no kernels"),
        ([ORT], [], TensorRTOptions(workspace_bytes=1 << 20), UsageError, "options of TensorRT; leave them"),
    ],
)
def test_what_does_not_fit_is_told_before_any_work(
    targets: list[str],
    unverified: list[str],
    options: TensorRTOptions | None,
    error: type[Exception],
    told: str,
    tmp_path: Path,
) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    with pytest.raises(error, match=told):
        export(
            tmp_path / "none.model",
            tmp_path / "b",
            calib=tmp_path,
            targets=targets,
            unverified=unverified,
            tensorrt=options,
        )


def test_tensorrt_is_built_where_its_gpu_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissingError) as found:
        export(tmp_path / "none.model", tmp_path / "b", calib=tmp_path, targets=["tensorrt:fp16:cuda"])
    assert "--unverified" not in str(found.value)


@pytest.mark.usefixtures("on_the_device")
def test_what_can_run_here_is_verified(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{CUDA} can run here: name it with --target"):
        export(tmp_path / "none.model", tmp_path / "b", calib=tmp_path, targets=[ORT], unverified=[CUDA])


def test_without_its_engine_it_is_not_verified_and_not_run(plans: Any, spine: Any, tmp_path: Path) -> None:
    report, _, _ = plans
    found = verify(report.bundle, spine.data, threads=1)
    assert list(found.targets) == [ORT]
    assert list(found.not_run) == list(found.to_json()["not_run"]) == [HALF, EIGHT]
    assert "no NVIDIA driver" in found.not_run[HALF]
    inspected = inspect(report.bundle).self_test
    assert inspected is not None
    assert inspected.passed
    assert (list(inspected.targets), list(inspected.not_run)) == ([ORT], [HALF, EIGHT])
    for action in (
        lambda: verify(report.bundle, spine.data, targets=[HALF]),
        lambda: run(report.bundle, [spine.data / "test"], tmp_path, target=Target.parse(HALF)),
    ):
        with pytest.raises(RuntimeMissingError, match=r"rtx:fp16:cuda \(not verified .* no NVIDIA driver"):
            action()
    with open_bundle(report.bundle) as bundle, Session.open(bundle) as session:
        assert str(session.target) == ORT
        assert session.warning == ""


@pytest.mark.usefixtures("on_the_device")
def test_on_the_device_it_proves_itself_and_says_that_it_must(
    typed: ExportReport, spine: Any, tmp_path: Path
) -> None:
    with open_bundle(typed.bundle) as bundle:
        with Session.open(bundle, CUDA) as session:
            assert session.runtime == "python"
            assert f"{CUDA} was not verified" in session.warning
        with pytest.raises(UsageError, match="self-test cannot be left out"):
            Session.open(bundle, CUDA, self_test=False)
        (result,) = self_test(bundle, CUDA).targets.values()
        assert result.passed
    said = Said()
    summary = run(
        typed.bundle, [spine.data / "test" / "good"], tmp_path, target=Target.parse(CUDA), progress=said
    )
    assert summary.images == 6
    assert any("was not verified where its bundle was made" in line for line in said.lines)
    found = verify(typed.bundle, spine.data, threads=1)
    assert (list(found.targets), found.not_run) == ([ORT, CUDA], {})
    shift = found.targets[CUDA].parity.shift_max
    assert shift is not None
    assert 0 < shift < 0.1 * (found.targets[CUDA].parity.score_range or 0)


@pytest.mark.usefixtures("on_the_device")
def test_where_it_gives_other_values_it_judges_nothing(
    typed: ExportReport, spine: Any, tmp_path: Path, resealed: Callable[[Path, Path], Path]
) -> None:
    """The golden score is off by twice the tolerance: `verify` still judges it, nothing else opens it."""
    bundle = resealed(typed.bundle, tmp_path / "off.edgead")
    with open_bundle(bundle) as opened:
        with pytest.raises(
            EngineError, match=rf"self-test failed.*edgead verify BUNDLE DATA --target {CUDA}"
        ):
            Session.open(opened, CUDA)
        (result,) = self_test(opened, CUDA).targets.values()
        assert not result.passed
        assert result.score_shift_max == pytest.approx(2 * result.score_tolerance, rel=0.25)
        assert "does not give here what its graph gave there" in result.why
        with Session.open(opened, ORT) as session:
            assert session.verified
    with pytest.raises(EngineError, match="self-test failed"):
        run(bundle, [spine.data / "test"], tmp_path / "out", target=Target.parse(CUDA))
    assert not (tmp_path / "out").exists()
    assert list(verify(bundle, spine.data, targets=[CUDA]).targets) == [CUDA]


@pytest.fixture
def resealed() -> Callable[[Path, Path], Path]:
    """A copy whose golden score of `CUDA` is off by two tolerances, every hash right."""
    import shutil

    from edgead.bundle import hash_list
    from edgead.bundle.hashes import sha256_file

    def copy(bundle: Path, to: Path) -> Path:
        shutil.copytree(bundle, to)
        manifest = json.loads((to / "manifest.json").read_text())
        tolerance = entry_of(to, CUDA)["score_tolerance"]
        for expected in manifest["golden"][0]["expected"]:
            if expected["target"] == CUDA:
                expected["score_raw"] += 2 * tolerance
        (to / "manifest.json").write_text(json.dumps(manifest))
        names = [path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()]
        hashes = {name: sha256_file(to / name) for name in names if name != "MANIFEST.sha256"}
        (to / "MANIFEST.sha256").write_bytes(hash_list.dump(hashes))
        return to

    return copy
