"""Fixtures that every test may use. Tests run in an empty working directory, so that stray files are seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

_SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _empty_working_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    yield
    left = sorted(path.name for path in folder.iterdir())
    assert not left, f"the test left files in the working directory: {left}"


def _real(name: str) -> Path:
    folder = _SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"real images of {name} are not here")
    return folder


@pytest.fixture(scope="session")
def bottle() -> Path:
    """MVTec AD bottle, complete (tests that use it are marked realdata)."""
    return _real("mvtec_bottle")


@pytest.fixture(scope="session")
def magnetic_tile() -> Path:
    """Magnetic tile surface in MVTec layout (tests that use it are marked realdata)."""
    return _real("magnetic_tile")
