"""The kernels on the CPU."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _host() -> ModuleType:
    """tests/cuda_host is no package: pytest imports by file."""
    name = "edgead_tests_host_device"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[2] / "cuda_host" / "host_device.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def host() -> ModuleType:
    """The module tests/cuda_host/host_device.py."""
    return _host()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kernels' host libraries lie, each made once."""
    return tmp_path_factory.mktemp("cuda_host")


@pytest.fixture
def make_device(host: ModuleType, built: Path) -> Iterator[Callable[[bool], object]]:
    """Devices on the CPU; True = threads and blocks in the reverse order."""
    made = []

    def make(backwards: bool) -> object:
        made.append(host.HostDevice(built, backwards=backwards))
        return made[-1]

    yield make
    for device in made:
        device.close()
