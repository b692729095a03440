"""A lowered detector to graph.onnx: uint8 NHWC in, raw map out, standard operators only."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgead import __version__
from edgead.errors import InternalError, RuntimeMissingError
from edgead.exporters._onnx_file import save
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# The newest that ONNX Runtime 1.20, OpenVINO 2025.0 and TensorRT 10 all read, and that torch writes without
# converting versions.
OPSET = 18

# Where torch notes the modules that a node comes from.
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedGraph:
    """A graph on disk and how far ONNX Runtime is from torch on it.

    Attributes:
        files: every file of the graph, `path` first (then, for large weights, ``graph.onnx.data``).
        max_abs_diff: largest difference of a raw map value between torch and ONNX Runtime, fp32, on a seeded
            random image.
        map_range: max − min of torch's map on that image.
    """

    path: Path
    files: tuple[Path, ...]
    max_abs_diff: float
    map_range: float


class _Outputs(nn.Module):
    """The named tuple of a detector as the plain outputs of a graph."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        anomaly_map, image_score = self.module(image)
        return (anomaly_map,) if image_score is None else (anomaly_map, image_score)


def export_graph(
    module: nn.Module,
    input_size: tuple[int, int],
    path: Path,
    *,
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> ExportedGraph:
    """Write `module` as a static ONNX graph, then run it and compare with torch.

    The same module gives the same bytes again with the same versions of torch and onnxscript.

    Args:
        module: what a lowering returned, or a detector itself: (N, H, W, 3) uint8 to `DetectorOutput`.
        input_size: (H, W).
        path: the file to write; large weights go to ``<path>.data``.
        batch: N.
        metadata: more entries for the graph's metadata, beside edgead's version.

    Raises:
        RuntimeMissingError: onnx or onnxscript is not installed.
        OutputError: the file cannot be written.
        InternalError: torch cannot express the module in standard operators.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (batch, *input_size, 3), generator=generator, dtype=torch.uint8)
    graph = _Outputs(module).eval()
    with torch.inference_mode():
        expected = graph(image)
    model = trace(graph, {"image": image}, ("anomaly_map", "image_score")[: len(expected)], metadata or {})
    files = save(model, path)
    map_expected: npt.NDArray[np.float32] = expected[0].numpy()
    with OnnxRuntime().open(path, Target("onnxruntime", "fp32")) as runtime:
        diff = float(abs(runtime.infer(image.numpy()).anomaly_map - map_expected).max())
    return ExportedGraph(
        path=path,
        files=files,
        max_abs_diff=diff,
        map_range=float(map_expected.max() - map_expected.min()),
    )


def trace(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], metadata: Mapping[str, str]
) -> Any:
    """The static ONNX graph (an ``onnx.ModelProto``) of `module`, called with `inputs` in their order.

    Raises:
        RuntimeMissingError: onnx or onnxscript is not installed.
        InternalError: torch cannot express the module in standard operators.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as err:
        raise RuntimeMissingError(f"{err.name} is not installed: pip install 'edgead[export]'") from err
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as err:
        raise InternalError(f"torch cannot export {module}: {err}") from err
    assert program is not None
    return _clean(program.model_proto, metadata)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide notes about torchvision's operators and deprecations inside torch: not the user's to mend."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _clean(model: Any, metadata: Mapping[str, str]) -> Any:
    """Drop the tracer's notes (they hold paths of this machine) and name the nodes; check what is left.

    A node is called ``<path of its module>/<operator>_<number>``: what an INT8 recipe and a report name.
    """
    import onnx

    graph = model.graph
    foreign = sorted(
        {f"{node.domain}::{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")}
    )
    if foreign or model.functions:
        raise InternalError(f"the graph holds operators that are not standard ONNX: {', '.join(foreign)}")
    for index, node in enumerate(graph.node):
        node.name = f"{_module_path(node)}{node.op_type}_{index}"
    for entry in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    del graph.value_info[:]
    graph.name = "edgead"
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.producer_name, model.producer_version, model.doc_string = "edgead", __version__, ""
    onnx.helper.set_model_props(model, dict(sorted({"edgead.version": __version__, **metadata}.items())))
    return model


def _module_path(node: Any) -> str:
    """``backbone.stem/`` from the note "['', 'module', 'module.backbone.stem', 'conv2d']", or nothing."""
    note = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    modules = [str(name) for name in ast.literal_eval(note)][1:-1]
    path = modules[-1].removeprefix("module").removeprefix(".") if modules else ""
    return f"{path}/" if path else ""
