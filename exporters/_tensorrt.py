"""ONNX to a plan, for TensorRT 10, TensorRT 11 and TensorRT-RTX: the same typed graph into all of them.

All three build a strongly typed network: the types in the ONNX are what is computed, so the fp16 or Q/DQ
graph that was checked in ONNX Runtime is what the plan holds, and no builder flag chooses a precision.
TensorRT 10 (JetPack 6) has to be asked for it, TensorRT 11 and RTX know nothing else. Shapes are static,
another batch is another graph: an optimisation profile has nothing to say.
"""

from __future__ import annotations

import json
import platform
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgead.bundle.manifest import Identity
from edgead.errors import EngineError, OutputError, UsageError
from edgead.exporters._base import CompiledTarget, Exporter
from edgead.exporters._qdq import TENSORRT, Encoding
from edgead.runtimes._tensorrt import IDENTITY, EngineIdentity, Package, device_index, parse_capability
from edgead.types import Precision, Target

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN, LOG = "model.plan", "build.log"
Compatibility = Literal["none", "same_compute_capability", "ampere_plus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRTOptions:
    """How plans are built.

    Attributes:
        compute_capabilities: GPUs to build for, such as ``8.6``, on a machine that need not have them; RTX
            only. Empty: of RTX, every one from 8.0 on, compiled to the last step where it is opened; of
            TensorRT, the GPU that is here.
        compatibility: other GPUs that TensorRT's plan shall run on, at some loss of speed.
        timing_cache: file that keeps what TensorRT measured of kernels, read where it is there and written
            afterwards; a second build of a similar graph is faster. None = none. RTX measures nothing.
        workspace_bytes: most device memory that a layer may use for scratch; 0 = the library's own limit.
    """

    compute_capabilities: tuple[str, ...] = ()
    compatibility: Compatibility = "none"
    timing_cache: Path | None = None
    workspace_bytes: int = 0


class TypedPlanExporter(Exporter):
    """What the exporters of both libraries share. Subclasses set `package` and choose the GPUs.

    Attributes:
        options: see there.
    """

    package: ClassVar[Package]
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    encoding: ClassVar[Encoding | None] = TENSORRT
    runs_typed_graph: ClassVar[bool] = True

    def __init__(self, options: TensorRTOptions | None = None) -> None:
        self.options = options or TensorRTOptions()

    @abstractmethod
    def choose_devices(self, library: Any, config: Any, index: int) -> tuple[str, tuple[str, ...], str]:
        """Set what GPUs `config` builds for; (device, compute capabilities, least) of the identity.

        Raises:
            UsageError: an option does not fit this library.
            EngineError: there is no such GPU.
        """

    def check(self, target: Target) -> None:
        """Look for the package and try the options on an empty configuration."""
        super().check(target)
        library = self.package.load()
        self._configure(library, _Log(library), device_index(target))

    def compile_impl(self, graph: Path, target: Target, folder: Path) -> CompiledTarget:
        """Parse, build, and write plan, identity and log; a log stays where the build fails."""
        index = device_index(target)
        library = self.package.load()
        version = str(library.__version__)
        log = _Log(library)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                plan, device, detector = self._build(library, log, graph, index)
            finally:
                (folder / LOG).write_text(log.text, "utf-8")
            identity = EngineIdentity(
                engine=self.engine,
                engine_version=version,
                machine=platform.machine(),
                device=device[0],
                compute_capabilities=device[1],
                least=device[2],
                detector=detector,
            )
            main = folder / PLAN
            main.write_bytes(plan)
            (folder / IDENTITY).write_bytes(identity.to_json())
        except OSError as err:
            raise OutputError(f"cannot write {folder}: {err.strerror or err}") from err
        return CompiledTarget(
            target=target,
            main_file=main,
            files=(main, folder / IDENTITY, folder / LOG),
            tools={self.engine: version},
            config={"compatibility": self.options.compatibility, "strongly_typed": "True", "tf32": "False"},
            identity=Identity(
                machine=identity.machine,
                device=identity.device,
                features=identity.features,
                engine_version=version,
            ),
        )

    def _build(
        self, library: Any, log: _Log, graph: Path, index: int
    ) -> tuple[bytes, tuple[str, tuple[str, ...], str], str]:
        """(plan, what `choose_devices` gave, name of the detector)."""
        model, detector = _readable(graph)
        builder, config, device = self._configure(library, log, index)
        network = builder.create_network(strongly_typed(library))
        parser = library.OnnxParser(network, log.sink)
        if not parser.parse(model, str(graph)):
            first = parser.get_error(0)
            raise EngineError(
                f"{self.package.title} cannot read {graph.name}: {_one_line(first.desc())} (node "
                f"{first.node_name()!r})"
            )
        cache = self._read_cache(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _failure(self.package.title, detector, graph.name, log.errors())
        if cache is not None and self.options.timing_cache is not None:
            write_cache(self.options.timing_cache, bytes(memoryview(cache.serialize())))
        return bytes(memoryview(plan)), device, detector

    def _configure(
        self, library: Any, log: _Log, index: int
    ) -> tuple[Any, Any, tuple[str, tuple[str, ...], str]]:
        """(builder, its configuration, what `choose_devices` gave)."""
        builder = library.Builder(log.sink)
        if builder is None:
            raise EngineError(f"{self.package.title} gives no builder: {log.errors()}")
        config = builder.create_builder_config()
        # On by default: a float32 product would have 10 bits of mantissa.
        config.clear_flag(library.BuilderFlag.TF32)
        if self.options.workspace_bytes:
            config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, self.options.workspace_bytes)
        return builder, config, self.choose_devices(library, config, index)

    def _read_cache(self, config: Any) -> Any:
        path = self.options.timing_cache
        if path is None:
            return None
        try:
            known = path.read_bytes() if path.is_file() else b""
        except OSError as err:
            raise UsageError(f"timing cache {path} cannot be read: {err.strerror}; name another") from err
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, False):
            raise UsageError(
                f"timing cache {path} is of another {self.package.title} or GPU; delete it, or name another"
            )
        return cache


def write_cache(path: Path, data: bytes) -> None:
    """Write a timing cache, its folder too.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as err:
        raise OutputError(f"timing cache {path} cannot be written: {err.strerror}; name another") from err


class _Log:
    """Collects what the library says, which would else go to stderr.

    Attributes:
        sink: what the library takes as its logger.
    """

    def __init__(self, library: Any) -> None:
        lines: list[tuple[str, str]] = []
        self._lines = lines
        levels = library.ILogger

        class Sink(levels):  # type: ignore[misc, valid-type]  # the library comes at run time
            def __init__(self) -> None:
                levels.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity != levels.VERBOSE:
                    lines.append((str(severity).rpartition(".")[2], message))

        self.sink = Sink()

    @property
    def text(self) -> str:
        """Every message, a line each."""
        return "".join(f"{severity}: {_one_line(message)}\n" for severity, message in self._lines)

    def errors(self) -> str:
        """The errors alone, in one line."""
        wrong = [message for severity, message in self._lines if severity.endswith("ERROR")]
        return "; ".join(dict.fromkeys(map(_one_line, wrong))) or "it does not say why"


def strongly_typed(library: Any) -> int:
    """Flags of a network that computes in the types of the ONNX; where nothing else exists there is none."""
    flags = library.NetworkDefinitionCreationFlag.__members__
    return 1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags else 0


def check_capabilities(known: Callable[[str], Any], texts: tuple[str, ...]) -> list[Any]:
    """The library's constants of compute capabilities; `known` gives None for one that it lacks.

    Raises:
        UsageError: one is not of the form 8.6, or the library does not build for it.
    """
    found = []
    for text in texts:
        major, minor = parse_capability(text)
        constant = known(f"SM{major}{minor}")
        if constant is None:
            raise UsageError(f"compute capability {text}: this library does not build for it")
        found.append(constant)
    return found


def _readable(graph: Path) -> tuple[bytes, str]:
    """(ONNX with the cast of the pixels first, name of the detector).

    TensorRT takes a uint8 input only where a cast to float reads it; lowerings transpose it first, which is
    the same.
    """
    import onnx

    try:
        model = onnx.load(graph, load_external_data=False)
    except Exception as err:
        raise EngineError(f"{graph.name} is no ONNX graph: {_one_line(str(err))}") from err
    nodes = model.graph.node
    if len(nodes) > 1 and nodes[0].op_type == "Transpose" and nodes[1].op_type == "Cast":
        turn, cast = onnx.NodeProto(), onnx.NodeProto()
        turn.CopyFrom(nodes[0])
        cast.CopyFrom(nodes[1])
        if cast.input[0] == turn.output[0] and turn.input[0] == model.graph.input[0].name:
            cast.input[0], turn.output[0] = turn.input[0], cast.output[0]
            cast.output[0] = turn.input[0] = "pixels"
            nodes[0].CopyFrom(cast)
            nodes[1].CopyFrom(turn)
    named = {entry.key: entry.value for entry in model.metadata_props}
    return model.SerializeToString(), named.get("edgead.detector", graph.stem)


def _failure(title: str, detector: str, name: str, errors: str) -> EngineError:
    short = errors if len(errors) < 2000 else errors[:2000] + " …"
    if "memory" in errors.lower():
        return EngineError(
            f"{title} has not memory enough to build {detector} ({name}): {short}; end other programs on the "
            "GPU, or give it a smaller workspace"
        )
    return EngineError(f"{title} cannot build {detector} ({name}): {short}")


def _one_line(text: str) -> str:
    return json.dumps(" ".join(text.split()), ensure_ascii=False)[1:-1]
