"""OpenVINO: runs an IR (model.xml) or an ONNX graph at exactly the asked precision, by default on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import EngineError, RuntimeMissingError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.runtimes._graph import INPUT, GraphOutputs, MapOutputs, check_file, check_input, last_line
from edgead.runtimes._openvino import MISSING, openvino
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PRECISION = "INFERENCE_PRECISION_HINT"
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVINORuntime(Runtime):
    """Latency-tuned, one stream, static shapes.

    The precision hint is always set: OpenVINO's own default is bf16 on CPUs that have it. Input and output
    tensors are bound once, so a call copies the image in and nothing out.
    """

    engine = "openvino"
    precisions = ("fp32", "bf16", "int8")

    def __init__(self) -> None:
        super().__init__()
        self._request: Any = None
        self._input: npt.NDArray[np.uint8] | None = None
        self._outputs: GraphOutputs = MapOutputs()
        self._output: RawOutput | None = None

    def outputs_of(self, graph: Path) -> GraphOutputs:
        """What `graph` gives."""
        return MapOutputs()

    @classmethod
    def availability(cls) -> Availability:
        """Whether the openvino package loads."""
        try:
            package = openvino()
        except ImportError:
            return Availability(False, MISSING)
        except Exception as err:
            return Availability(False, f"openvino is installed and does not load: {err}")
        return Availability(True, version=package.__version__.split("-")[0])

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Compile for latency; refuse where the device gives another precision than the asked one."""
        try:
            package = openvino()
        except ImportError as err:
            raise RuntimeMissingError(MISSING) from err
        check_file(graph)
        self._outputs = self.outputs_of(graph)
        core = package.Core()
        device = _device(core, target)
        hint = self._hint(core, device, target)
        config: dict[str, Any] = {
            _PRECISION: hint,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(graph)
        except Exception as err:
            raise EngineError(f"OpenVINO cannot read {graph.name}: {last_line(err)}") from err
        if len(model.inputs) != 1:
            raise EngineError(f"{graph.name}: {len(model.inputs)} inputs, a graph has one, {INPUT!r}")
        port = model.input()
        dims = [size.get_length() if size.is_static else str(size) for size in port.get_partial_shape()]
        shape = check_input(graph, port.get_any_name(), port.get_element_type().get_type_name(), dims)
        names = self._outputs.check(graph, [output.get_any_name() for output in model.outputs])
        try:
            compiled = core.compile_model(model, device, config)
        except Exception as err:
            raise EngineError(f"OpenVINO cannot compile {graph.name} for {target}: {last_line(err)}") from err
        given = compiled.get_property(_PRECISION).get_type_name()
        if given != hint:
            raise EngineError(
                f"{target}: this {device} would run {given}, not {target.precision}; choose another target"
            )
        self._bind(graph, compiled, shape, names)
        return shape

    def _hint(self, core: Any, device: str, target: Target) -> str:
        """In OpenVINO's words; of an int8 graph, this is of what is not quantised.

        OpenVINO's own default is bf16 where the device has it. Asked for, it computes in bf16 on any CPU with
        AVX-512, by conversions, which is slower than fp32.
        """
        hint = _HINTS[target.precision]
        if target.precision != "int8" or self._rest != "bf16":
            return hint
        default: str = core.get_property(device, _PRECISION).get_type_name()
        return "bf16" if default == "bf16" else hint

    def _bind(
        self, graph: Path, compiled: Any, shape: tuple[int, int, int, int], names: tuple[str, ...]
    ) -> None:
        import numpy as np

        tensor = openvino().Tensor
        self._request = compiled.create_infer_request()
        self._input = np.zeros(shape, np.uint8)
        self._request.set_tensor(INPUT, tensor(self._input, shared_memory=True))
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for name in names:
            arrays[name] = np.zeros(tuple(compiled.output(name).shape), self._outputs.dtype(name))
            self._request.set_tensor(name, tensor(arrays[name], shared_memory=True))
        self._output = self._outputs.bind(graph, arrays)

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Copy the image into the bound tensor and run."""
        assert self._input is not None
        assert self._output is not None
        self._input[...] = image
        try:
            self._request.infer()
        except Exception as err:
            raise EngineError(f"OpenVINO failed on an image: {last_line(err)}") from err
        self._outputs.finish()
        return self._output

    def close_impl(self) -> None:
        """Drop the request, and with it the compiled model and its tensors."""
        self._request = self._input = self._output = None
        self._outputs = MapOutputs()


def _device(core: Any, target: Target) -> str:
    device = target.device.upper()
    known: list[str] = core.available_devices
    if device not in known and device not in {name.split(".")[0] for name in known}:
        raise EngineError(f"{target}: OpenVINO finds no device {device!r} here, it has {', '.join(known)}")
    return device
