"""An opened plan of TensorRT or TensorRT-RTX as a `DeviceEngine`: not for a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgead.errors import EngineError
from edgead.runtimes._cuda import DeviceFacts
from edgead.runtimes._device_engine import DeviceTensor
from edgead.runtimes._graph import INPUT, GraphOutputs, check_input
from edgead.runtimes._tensorrt import EngineIdentity, Package


class TensorRTEngine:
    """A plan, deserialised on the GPU whose context is current, and the context that runs it.

    Attributes:
        input_shape: (N, H, W, 3).
        outputs: by name.
    """

    def __init__(self, plan: Path, package: Package, facts: DeviceFacts, outputs: GraphOutputs) -> None:
        """Look at the identity, then at the plan.

        Args:
            plan: ``model.plan``, its identity beside it.
            package: the library.
            facts: of the GPU whose context is current.
            outputs: which tensors the graph must give.

        Raises:
            RuntimeMissingError: the library is not installed.
            EngineError: the plan is for another library, version or GPU, does not load, or needs more memory
                than there is.
        """
        identity = EngineIdentity.read(plan)
        library = package.load()
        identity.check_host(package.engine, str(library.__version__))
        identity.check_device(facts.name, facts.capability)
        self._library = library
        self._runtime = library.Runtime(library.Logger(library.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{package.title} cannot load {plan.name}; export {identity.detector} again on this machine"
            )
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._mode(name) == library.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise EngineError(f"{plan.name}: {len(inputs)} inputs, a graph has one, {INPUT!r}")
        kind = "u8" if self._engine.get_tensor_dtype(inputs[0]) == library.uint8 else "another type"
        shape = list(self._engine.get_tensor_shape(inputs[0]))
        self.input_shape = check_input(plan, inputs[0], kind, shape)
        wanted = outputs.check(plan, [name for name in names if name not in inputs])
        self.outputs: Mapping[str, DeviceTensor] = {name: self._tensor(name) for name in wanted}
        for name, tensor in self.outputs.items():
            if tensor.dtype != outputs.dtype(name):
                raise EngineError(f"{plan.name}: output {name} is {tensor.dtype}, not {outputs.dtype(name)}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            needed = self._engine.device_memory_size_v2 / 2**20
            raise EngineError(
                f"{identity.detector} needs {needed:,.0f} MiB of scratch memory beside its weights, which "
                f"{facts.name} ({facts.memory_bytes / 2**20:,.0f} MiB in all) has not free; end other "
                "programs on the GPU, or use a smaller detector"
            )

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Put one run on `stream`; see `DeviceEngine.enqueue`."""
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"the engine has no tensor {name!r}, or not at address {address:#x}")
        if not self._context.execute_async_v3(stream):
            raise EngineError("the engine refused to run; look at what it wrote to stderr")

    def check(self) -> None:
        """Nothing: what fails in the stream is told where it is waited for."""

    def _mode(self, name: str) -> Any:
        return self._engine.get_tensor_mode(name)

    def _tensor(self, name: str) -> DeviceTensor:
        import numpy as np

        kind = np.dtype(self._library.nptype(self._engine.get_tensor_dtype(name)))
        return DeviceTensor(tuple(int(size) for size in self._engine.get_tensor_shape(name)), kind.name)
