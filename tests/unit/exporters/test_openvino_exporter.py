from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgead.exporters.onnx_exporter import trace
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.runtimes._openvino import openvino
from edgead.types import Precision, Target

_GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead" / "graph.onnx"

# Ends with the name of the first forbidden event: a child process, or a word with another machine.
_QUIET = """
import sys
from pathlib import Path

def watch(event, arguments):
    if event in ("os.fork", "os.posix_spawn", "socket.connect", "urllib.Request"):
        print(event, arguments, file=sys.stderr)
        import os
        os._exit(9)

sys.addaudithook(watch)
from edgead.exporters.openvino_exporter import OpenVINOExporter
from edgead.types import Target

made = OpenVINOExporter().compile(Path(sys.argv[1]), Target("openvino", "fp32"), Path(sys.argv[2]))
assert made.main_file.is_file()
"""


def test_compiles_without_a_child_process_and_without_a_word_to_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _QUIET, str(_GOLDEN), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with one convolution that pays, of an image as detectors take it."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(128, 128, 4), torch.nn.ReLU(), torch.nn.AvgPool2d(2))
    path = tmp_path_factory.mktemp("large") / "graph.onnx"
    onnx.save(trace(net.eval(), {"image": torch.rand(1, 128, 48, 48)}, ["anomaly_map"], {}), path)
    return path


@pytest.mark.parametrize(
    ("asked", "precision", "fast"),
    [(True, "fp32", True), (True, "bf16", True), (True, "int8", False), (False, "fp32", False)],
)
def test_convolutions_of_float_graphs_are_fast_where_asked(
    asked: bool, precision: Precision, fast: bool, large: Path, tmp_path: Path
) -> None:
    exporter = OpenVINOExporter()
    exporter.fast = asked
    made = exporter.compile(large, Target("openvino", precision), tmp_path)
    assert made.config.get("convolutions", "plain") == ("fast" if fast else "plain")
    nodes = openvino().Core().read_model(made.main_file).get_ordered_ops()
    assert sum(node.get_type_name() == "Convolution" for node in nodes) == (9 if fast else 1)


def test_a_fast_graph_gives_what_onnx_runtime_gives_by_the_same_names(large: Path, tmp_path: Path) -> None:
    made = OpenVINOExporter().compile(large, Target("openvino", "fp32"), tmp_path)
    image = np.random.default_rng(0).random((1, 128, 48, 48), np.float32) * 255
    compiled = openvino().Core().compile_model(made.main_file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"image": image})["anomaly_map"]
    wanted = onnxruntime.InferenceSession(large).run(["anomaly_map"], {"image": image})[0]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_same_graph_gives_the_same_bytes(large: Path, tmp_path: Path) -> None:
    one, two = (
        OpenVINOExporter().compile(large, Target("openvino", "fp32"), tmp_path / name).files
        for name in ("one", "two")
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
