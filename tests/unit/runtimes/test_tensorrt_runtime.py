"""TensorRT's runtimes where there is no GPU: what they say, and that a plan for elsewhere is refused."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgead.errors import EngineError, RuntimeMissingError
from edgead.runtimes._cuda import DeviceFacts, cuda_missing
from edgead.runtimes._graph import MapOutputs
from edgead.runtimes._registry import engines, runtime_for
from edgead.runtimes._tensorrt import IDENTITY, TENSORRT_RTX, EngineIdentity
from edgead.runtimes._tensorrt_engine import TensorRTEngine
from edgead.types import Target

ENGINES = ("tensorrt", "tensorrt_rtx")
FACTS = DeviceFacts("Test GPU", (8, 9), 8 << 30)


def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_package_names_its_extra(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    found = engines()[engine]
    assert not found.available
    assert "not installed: pip install 'edgead[tensorrt" in found.why
    with pytest.raises(RuntimeMissingError, match="not installed"):
        runtime_for(engine).open(Path("model.plan"), Target(engine, "fp32", "cuda"))


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_driver_the_package_is_said_to_be_there(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine, SimpleNamespace(__version__="9.9"))
    no_driver(monkeypatch)
    found = engines()[engine]
    assert not found.available
    assert "9.9 is installed; to run it: no NVIDIA driver here (libcuda.so.1 is missing)" in found.why
    with pytest.raises(RuntimeMissingError, match="install the driver"):
        runtime_for(engine).open(Path("model.plan"), Target(engine, "fp32", "cuda"))


def test_with_a_driver_pycuda_and_a_gpu_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old() -> None:
        raise RuntimeError("cuInit failed: system driver is too old")

    driver = SimpleNamespace(init=too_old, Device=SimpleNamespace(count=lambda: 0))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert "pycuda is not installed" in cuda_missing()
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    assert "driver is too old): update it" in cuda_missing()
    monkeypatch.setattr(driver, "init", lambda: None)
    assert cuda_missing() == "the NVIDIA driver finds no GPU"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"engine_version": "0.1"}, r"built by tensorrt_rtx 0\.1, here is"),
        ({"machine": "vax"}, "for vax, here is"),
        ({"compute_capabilities": ("8.6",)}, "Test GPU, is sm_89"),
        ({}, r"cannot load model\.plan; export cpr again"),
    ],
    ids=str,
)
def test_a_plan_for_elsewhere_is_refused_before_the_library_sees_it(
    change: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platform

    seen: list[bytes] = []

    class Runtime:
        def __init__(self, logger: object) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> None:
            seen.append(plan)

    def logger(level: int) -> int:
        return level

    logger.ERROR = 1  # type: ignore[attr-defined]
    library = SimpleNamespace(__version__="1.7", Runtime=Runtime, Logger=logger)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)
    identity = EngineIdentity(
        engine="tensorrt_rtx",
        engine_version="1.7",
        machine=platform.machine(),
        device="any",
        compute_capabilities=(),
        least="8.0",
        detector="cpr",
    )
    (tmp_path / "model.plan").write_bytes(b"plan")
    (tmp_path / IDENTITY).write_bytes(replace(identity, **change).to_json())
    with pytest.raises(EngineError, match=told):
        TensorRTEngine(tmp_path / "model.plan", TENSORRT_RTX, FACTS, MapOutputs())
    assert seen == ([] if change else [b"plan"])
