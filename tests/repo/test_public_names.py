"""What `import edgead` promises to users."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgead

# Adding is fine; taking away or moving one breaks somebody's line.
PROMISED = {
    "DeviceFrame": "edgead.imaging.device_frame",
    "Frame": "edgead.imaging.frame",
    "Prediction": "edgead.types",
    "Region": "edgead.types",
    "Session": "edgead.runtimes.session",
    "Target": "edgead.types",
    "bench": "edgead.workflows.bench",
    "export": "edgead.workflows.export",
    "open_bundle": "edgead.bundle.reader",
    "read_image": "edgead.imaging.frame",
    "run": "edgead.workflows.run",
    "train": "edgead.workflows.train",
    "verify": "edgead.workflows.verify",
}


def test_all_is_what_was_promised() -> None:
    assert sorted(edgead.__all__) == sorted([*PROMISED, "__version__"])
    assert set(edgead.__all__) <= set(dir(edgead))


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_public_name_is_the_class_or_function_itself(name: str) -> None:
    found = getattr(edgead, name)
    assert inspect.isclass(found) or inspect.isfunction(found)
    assert (found.__module__, found.__name__) == (PROMISED[name], name)
    assert inspect.getdoc(found)


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse(Path(edgead.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == PROMISED


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = edgead.fit  # type: ignore[attr-defined]


def test_the_device_side_names_load_no_torch_and_the_light_ones_no_numpy() -> None:
    code = (
        "import json, sys\n"
        "from edgead import Prediction, Region, Target\n"
        "light = 'numpy' in sys.modules\n"
        "from edgead import Frame, Session, bench, open_bundle, read_image, run\n"
        "print(json.dumps([light, 'torch' in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [False, False]
