"""ONNX Runtime: runs graph.onnx, or its fp16 or 8-bit form, as it is, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgead.errors import EngineError, RuntimeMissingError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._graph import INPUT, GraphOutputs, MapOutputs, check_file, check_input, last_line
from edgead.runtimes._ort_engine import OrtEngine
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.runtimes.cuda._device import Device

_CUDA = "CUDAExecutionProvider"
_MISSING = "onnxruntime is not installed: pip install onnxruntime"


class OnnxRuntime(Runtime):
    """Sequential, outputs bound once to arrays of ours; on the CPU the image is read in place.

    On ``cuda`` it never falls back to the CPU as a whole; no GPU was there to run it on.
    """

    engine = "onnxruntime"
    precisions = ("fp32", "fp16", "int8")
    entries: ClassVar[Mapping[str, str]] = {}
    """Further entries of a session's configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Any = None
        self._binding: Any = None
        self._outputs: GraphOutputs = MapOutputs()
        self._output: RawOutput | None = None

    def outputs_of(self, graph: Path) -> GraphOutputs:
        """What `graph` gives."""
        return MapOutputs()

    @classmethod
    def availability(cls) -> Availability:
        """Whether the onnxruntime package loads."""
        try:
            import onnxruntime
        except ImportError:
            return Availability(False, _MISSING)
        except Exception as err:
            return Availability(False, f"onnxruntime is installed and does not load: {err}")
        return Availability(True, version=onnxruntime.__version__)

    @classmethod
    def availability_for(cls, target: Target) -> Availability:
        """The package, and for a GPU its CUDA provider; whether that finds a GPU, only opening tells."""
        here = cls.availability()
        if not here.available:
            return here
        import onnxruntime

        try:
            cls.provider_of(onnxruntime, target)
        except EngineError as err:
            return Availability(False, str(err))
        return here

    @classmethod
    def provider_of(cls, onnxruntime: Any, target: Target) -> str:
        """The execution provider that runs `target`.

        Raises:
            EngineError: this onnxruntime has none.
        """
        if target.device == "cpu" and target.precision != "fp16":
            return "CPUExecutionProvider"
        if target.device != "cuda":
            raise EngineError(
                f"{target}: this runtime drives ONNX Runtime on the cpu, or on the first GPU as "
                f"onnxruntime:{target.precision}:cuda; fp16 on the GPU only"
            )
        if _CUDA not in onnxruntime.get_available_providers():
            raise EngineError(
                f"{target}: this onnxruntime has no CUDA provider: put onnxruntime-gpu in its place (pip "
                "uninstall onnxruntime; pip install onnxruntime-gpu)"
            )
        return _CUDA

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Make a session with every option that matters spelled out."""
        self._outputs = self.outputs_of(graph)
        session = self._opened(graph, target, threads)
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise EngineError(f"{graph.name}: {len(inputs)} inputs, a graph has one, {INPUT!r}")
        shape = check_input(graph, inputs[0].name, inputs[0].type, inputs[0].shape)
        self._outputs.check(graph, [output.name for output in session.get_outputs()])
        self._session, self._binding = session, session.io_binding()
        self._bind_outputs(graph)
        return shape

    def on_device(self, graph: Path, target: Target, device: Device) -> DeviceEngine:
        """A session that works in `device`'s stream, on tensors in its memory, and its search, if any."""
        outputs = self.outputs_of(graph)
        options = {"device_id": str(device.index), "user_compute_stream": str(device.stream)}
        session = self._opened(graph, target, 0, options)
        engine = OrtEngine(session, graph, outputs, "cuda", device.index, device.stream)
        return outputs.on_device(graph, engine, device)

    def _opened(
        self, graph: Path, target: Target, threads: int, cuda_options: Mapping[str, str] | None = None
    ) -> Any:
        """An open session.

        Args:
            graph: the file.
            target: precision and device.
            threads: compute threads on the CPU, 0 = its own choice.
            cuda_options: further ones for the CUDA provider.

        Raises:
            UsageError: there is no such file.
            RuntimeMissingError: onnxruntime is not installed.
            EngineError: it refuses the graph, or cannot use the device.
        """
        try:
            import onnxruntime
        except ImportError as err:
            raise RuntimeMissingError(_MISSING) from err
        check_file(graph)
        provider = self.provider_of(onnxruntime, target)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions, not also as lines on stderr
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads
        # Spinning between operators took a quarter off the latency; spinning on between images, the default,
        # only doubled the CPU time of a line with pauses.
        for key, value in self.entries.items():
            options.add_session_config_entry(key, value)
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers: list[Any] = [provider]
        if provider == _CUDA:  # fp32 is fp32 here: the provider's own default rounds products to TF32
            providers = [(provider, {"use_tf32": "0", **(cuda_options or {})})]
        try:
            session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
        except Exception as err:
            raise EngineError(f"ONNX Runtime cannot load {graph.name}: {last_line(err)}") from err
        if session.get_providers()[0] != provider:
            raise EngineError(
                f"{target}: ONNX Runtime cannot use the GPU and would run on the CPU; look at its driver and "
                "at the CUDA and cuDNN that this onnxruntime-gpu asks for"
            )
        return session

    def _bind_outputs(self, graph: Path) -> None:
        import numpy as np

        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for output in self._session.get_outputs():
            if not all(isinstance(size, int) for size in output.shape):
                raise EngineError(f"{graph.name}: output {output.name} has no static shape ({output.shape})")
            arrays[output.name] = array = np.zeros(output.shape, self._outputs.dtype(output.name))
            self._binding.bind_output(output.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self._output = self._outputs.bind(graph, arrays)

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Bind the image where it lies and run."""
        assert self._output is not None
        try:
            self._binding.bind_input(INPUT, "cpu", 0, image.dtype, image.shape, image.ctypes.data)
            self._session.run_with_iobinding(self._binding)
        except Exception as err:
            raise EngineError(f"ONNX Runtime failed on an image: {last_line(err)}") from err
        self._outputs.finish()
        return self._output

    def close_impl(self) -> None:
        """Drop the session and its binding."""
        self._session = self._binding = self._output = None
        self._outputs = MapOutputs()
