"""A real bundle for the verbs: the golden one, whose score is the highest sum of a 2×2 RGB block over 16.

A frame of one grey value v scores 12·v/16 = 0.75·v; its image threshold is 126, so v = 168 is the limit.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner, Result

_GOLDEN = Path(__file__).resolve().parents[1] / "golden"

Edgead = Callable[..., Result]


@pytest.fixture
def edgead() -> Edgead:
    """Run the command line in this process: ``edgead("run", bundle, folder, "-o", out)``."""
    from edgead.cli.app import build

    def call(*arguments: object) -> Result:
        words: Sequence[str] = [str(argument) for argument in arguments]
        result = CliRunner().invoke(build(), words, env={"NO_COLOR": "1", "COLUMNS": "100"})
        assert "Traceback" not in result.stderr
        return result

    return call


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A copy of the golden bundle, with a folder of its own for the side-car."""
    path = tmp_path / "line" / "part.edgead"
    shutil.copytree(_GOLDEN / "bundle_v1.edgead", path)
    return path


@pytest.fixture
def maker() -> ModuleType:
    """A fresh copy of the golden bundle's recipe: change a part of it, then call its `build`."""
    spec = importlib.util.spec_from_file_location("make_bundle_v1", _GOLDEN / "make_bundle_v1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def grey(tmp_path: Path) -> Callable[..., Path]:
    """Write a PNG of one grey value: ``grey("a/x.png", 40)`` scores 30."""
    import cv2

    def write(name: str, value: int, size: tuple[int, ...] = (8, 8, 3), dtype: str = "uint8") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full(size, value, dtype))
        return path

    return write
