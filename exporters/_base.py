"""The exporter interface: graph.onnx to what an engine loads. Checks in `compile`, work in `compile_impl`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgead.bundle.manifest import Identity
from edgead.errors import InternalError, UsageError
from edgead.exporters._qdq import Encoding
from edgead.types import Precision, Rest, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledTarget:
    """What a target needs on disk.

    Attributes:
        main_file: what `Runtime.open` takes.
        files: every file that the target reads, `main_file` among them. Targets may share files:
            openvino:fp32 and openvino:bf16 are one IR, onnxruntime:fp32 is graph.onnx itself.
        tools: package name to version, of what compiled it.
        config: options that it was compiled with, as the engine spells them.
        head: what `TargetEntry.head` shall say; None for an engine that makes the map itself.
        identity: what `TargetEntry.identity` shall say; None for an engine of this machine's CPU.
        rest: what `TargetEntry.rest` shall say.
    """

    target: Target
    main_file: Path
    files: tuple[Path, ...]
    tools: dict[str, str]
    config: dict[str, str] = field(default_factory=dict)
    head: dict[str, object] | None = None
    identity: Identity | None = None
    rest: Rest = "fp32"


class Exporter(ABC):
    """Makes one engine's files. Subclasses set `engine`, `precisions` and implement `compile_impl`."""

    engine: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]
    encoding: ClassVar[Encoding | None] = None
    """How the graph that is compiled for int8 holds its Q/DQ pairs; None where there is no int8."""
    chooses_rest: ClassVar[bool] = False
    """Whether the engine can compute in bf16 what an int8 graph leaves in float."""
    runs_typed_graph: ClassVar[bool] = False
    """Whether the engine computes in the types of the graph it is given, so that another one can tell what it
    gives; such an engine on a GPU may be compiled for where there is none."""

    def check(self, target: Target) -> None:
        """Refuse before long work what `compile` would refuse of target and options, whatever the graph.

        Raises:
            As `compile`.
        """
        if target.engine != self.engine or target.precision not in self.precisions:
            raise UsageError(f"{target}: {self.engine} targets come in {', '.join(self.precisions)}")

    def folder(self, target: Target) -> str:
        """Name of the target's folder; targets that share their files share the folder."""
        return target.slug

    def source(self, graph: Path) -> Path:
        """The float graph that the engine runs: `graph` (graph.onnx), or what stands for it beside a search.

        Raises:
            UsageError: the detector has no such search.
        """
        return graph

    def compile(self, graph: Path, target: Target, out_dir: Path) -> CompiledTarget:
        """Compile `graph` for `target`.

        Args:
            graph: graph.onnx, its external data beside it; for fp16 the form that `edgead.exporters._half`
                writes, for int8 `source` with Q/DQ pairs in the exporter's `encoding`, as
                `edgead.exporters._qdq` writes it.
            target: engine, explicit precision, device.
            out_dir: new files go to ``out_dir / folder(target)``, nothing is written elsewhere.

        Raises:
            UsageError: the target is another engine's, or of a precision that this exporter cannot make, or
                there is no such graph.
            RuntimeMissingError: the engine's package is not installed.
            EngineError: the engine's compiler refuses the graph.
            OutputError: a file cannot be written.
        """
        Exporter.check(self, target)
        if not graph.is_file():
            raise UsageError(f"graph {graph} does not exist")
        graph = graph if target.precision in {"fp16", "int8"} else self.source(graph)
        compiled = self.compile_impl(graph, target, out_dir / self.folder(target))
        missing = [str(file) for file in (compiled.main_file, *compiled.files) if not file.is_file()]
        if missing or compiled.main_file not in compiled.files:
            raise InternalError(
                f"{type(self).__name__} names files that it did not make: {', '.join(missing)}"
            )
        return compiled

    @abstractmethod
    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Make the files of `source`, or of its 8-bit form, in `folder`, which may not exist yet."""
