"""ONNX to OpenVINO's IR: model.xml and model.bin."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edgead.errors import EngineError, OutputError, RuntimeMissingError
from edgead.exporters._base import CompiledTarget, Exporter
from edgead.exporters._fast_convolution import replace_convolutions
from edgead.exporters._qdq import OPENVINO, Encoding
from edgead.runtimes._graph import last_line
from edgead.runtimes._openvino import MISSING, openvino
from edgead.types import Precision, Target


class OpenVINOExporter(Exporter):
    """Weights stay in float32: OpenVINO would halve them by default and fp32 would no longer be the model.

    bf16 is no other file, the runtime asks for it when it compiles the same IR.

    Attributes:
        fast: whether float graphs compute large convolutions with fewer products, where that pays.
    """

    engine = "openvino"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "bf16", "int8")
    encoding: ClassVar[Encoding | None] = OPENVINO
    chooses_rest: ClassVar[bool] = True
    fast: bool = True

    def folder(self, target: Target) -> str:
        """One folder for fp32 and bf16."""
        return target.slug if target.precision == "int8" else self.engine

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Convert and save; an IR of the same graph that is there already is written again, the same."""
        try:
            package = openvino()
        except ImportError as err:
            raise RuntimeMissingError(MISSING) from err
        try:
            model = package.convert_model(graph)
        except Exception as err:
            raise EngineError(f"OpenVINO cannot convert {graph.name}: {last_line(err)}") from err
        fast = self.fast and target.precision != "int8" and replace_convolutions(model) > 0
        # Names that OpenVINO makes up count the process's nodes; the same graph shall give the same bytes.
        for index, node in enumerate(model.get_ordered_ops()):
            if node.get_type_name() != "Parameter":
                node.set_friendly_name(f"{node.get_type_name()}_{index}")
        main, weights = folder / "model.xml", folder / "model.bin"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            package.save_model(model, main, compress_to_fp16=False)
        except (OSError, RuntimeError) as err:
            raise OutputError(f"cannot write {main}: {last_line(err)}") from err
        return CompiledTarget(
            target=target,
            main_file=main,
            files=(main, weights),
            tools={"openvino": package.__version__.split("-")[0]},
            config={"compress_to_fp16": "False", **({"convolutions": "fast"} if fast else {})},
        )
