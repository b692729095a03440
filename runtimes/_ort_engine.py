"""An ONNX Runtime session as a `DeviceEngine`: its tensors are bound where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgead.errors import EngineError
from edgead.runtimes._device_engine import DeviceTensor
from edgead.runtimes._graph import INPUT, GraphOutputs, check_input, last_line


class OrtEngine:
    """A session whose provider works in one stream, given when it was made (``user_compute_stream``).

    Attributes:
        input_shape: (N, H, W, 3).
        outputs: by name.
    """

    def __init__(
        self, session: Any, graph: Path, outputs: GraphOutputs, device_type: str, index: int, stream: int
    ) -> None:
        """Look at the session's tensors.

        Args:
            session: ``onnxruntime.InferenceSession``.
            graph: for messages.
            outputs: which tensors the graph must give.
            device_type: ``cuda``, or ``cpu`` for host memory.
            index: which GPU.
            stream: what the session works in.

        Raises:
            EngineError: the graph is not of the form that edgead runs.
        """
        import onnxruntime

        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise EngineError(f"{graph.name}: {len(inputs)} inputs, a graph has one, {INPUT!r}")
        self.input_shape = check_input(graph, inputs[0].name, inputs[0].type, inputs[0].shape)
        given = {output.name: output.shape for output in session.get_outputs()}
        self.outputs: Mapping[str, DeviceTensor] = {
            name: DeviceTensor(_static(graph, name, given[name]), outputs.dtype(name))
            for name in outputs.check(graph, list(given))
        }
        self._session, self._binding = session, session.io_binding()
        self._where = (device_type, index)
        self._stream = stream
        self._options = onnxruntime.RunOptions()
        # The stream is waited for once, behind the post kernel. A CUDA graph cannot wait at all.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._bound: dict[str, int] = {}

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Put one run on `stream`; see `DeviceEngine.enqueue`."""
        if stream != self._stream:
            raise EngineError(f"the session works in the stream {self._stream:#x}, not in {stream:#x}")
        if self._bound != addresses:
            self._bind(addresses)
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as err:
            raise EngineError(f"ONNX Runtime failed on an image: {last_line(err)}") from err

    def check(self) -> None:
        """Nothing: a run that fails says so at once."""

    def _bind(self, addresses: Mapping[str, int]) -> None:
        import numpy as np

        device_type, index = self._where
        self._binding.bind_input(
            INPUT, device_type, index, np.uint8, list(self.input_shape), addresses[INPUT]
        )
        for name, tensor in self.outputs.items():
            kind, shape = np.dtype(tensor.dtype).type, list(tensor.shape)
            self._binding.bind_output(name, device_type, index, kind, shape, addresses[name])
        self._bound = dict(addresses)


def _static(graph: Path, name: str, shape: list[Any]) -> tuple[int, ...]:
    """The shape of an output, which must have fixed sizes."""
    if not all(isinstance(size, int) for size in shape):
        raise EngineError(f"{graph.name}: output {name} has no static shape ({shape})")
    return tuple(shape)
