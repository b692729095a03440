"""TensorRT: runs a plan on an NVIDIA GPU, image and map in host memory; `DeviceEngine` is its inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgead.errors import EngineError, RuntimeMissingError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.runtimes._cuda import cuda_driver, cuda_missing, device_facts
from edgead.runtimes._graph import INPUT, GraphOutputs, MapOutputs, check_file, last_line
from edgead.runtimes._tensorrt import TENSORRT, Package, device_index
from edgead.runtimes._tensorrt_engine import TensorRTEngine
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_WARM_UP = 3


class TensorRTRuntime(Runtime):
    """One stream, pinned host and device memory bound once; `open` runs the engine a few times.

    Nothing of a plan has run in edgead's own tests, whose machine has no GPU.
    """

    engine = "tensorrt"
    precisions = ("fp32", "fp16", "int8")
    package: ClassVar[Package] = TENSORRT

    def __init__(self) -> None:
        super().__init__()
        self._cuda: Any = None
        self._stream: Any = None
        self._loaded: TensorRTEngine | None = None
        self._memory: dict[str, Any] = {}
        self._pinned: dict[str, npt.NDArray[np.generic]] = {}
        self._outputs: GraphOutputs = MapOutputs()
        self._output: RawOutput | None = None

    @classmethod
    def availability(cls) -> Availability:
        """Whether package, driver, pycuda and a GPU are here; without them plans may still be built."""
        try:
            version = str(cls.package.load().__version__)
        except RuntimeMissingError as err:
            return Availability(False, str(err))
        if missing := cuda_missing():
            return Availability(False, f"{cls.package.title} {version} is installed; to run it: {missing}")
        return Availability(True, version=version)

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Deserialise, allocate, warm up; `threads` says nothing to a GPU."""
        index = device_index(target)
        self.package.load()
        driver = cuda_driver()
        check_file(graph)
        facts = device_facts(index)
        self._cuda = driver.Device(index).retain_primary_context()
        self._cuda.push()
        try:
            self._outputs = MapOutputs()
            self._loaded = TensorRTEngine(graph, self.package, facts, self._outputs)
            self._bind(driver, graph)
            for _ in range(_WARM_UP):
                self._run(driver)
            return self._loaded.input_shape
        except driver.MemoryError as err:
            self._release()
            raise EngineError(
                f"{graph.name}: {facts.name} has not memory enough for the tensors: {last_line(err)}; end "
                "other programs on the GPU"
            ) from err
        except BaseException:
            self._release()
            raise
        finally:
            driver.Context.pop()

    def _bind(self, driver: Any, graph: Path) -> None:
        import numpy as np

        assert self._loaded is not None
        self._stream = driver.Stream()
        tensors: dict[str, tuple[tuple[int, ...], str]] = {INPUT: (self._loaded.input_shape, "uint8")}
        tensors |= {name: (tensor.shape, tensor.dtype) for name, tensor in self._loaded.outputs.items()}
        for name, (shape, kind) in tensors.items():
            self._pinned[name] = driver.pagelocked_zeros(shape, np.dtype(kind))
            self._memory[name] = driver.mem_alloc(self._pinned[name].nbytes)
        results = {name: array for name, array in self._pinned.items() if name != INPUT}
        self._output = self._outputs.bind(graph, results)

    def _run(self, driver: Any) -> None:
        assert self._loaded is not None
        driver.memcpy_htod_async(self._memory[INPUT], self._pinned[INPUT], self._stream)
        addresses = {name: int(memory) for name, memory in self._memory.items()}
        self._loaded.enqueue(addresses, int(self._stream.handle))
        for name in self._loaded.outputs:
            driver.memcpy_dtoh_async(self._pinned[name], self._memory[name], self._stream)
        self._stream.synchronize()

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Copy the image to pinned memory and from there, run, copy the map back."""
        assert self._output is not None
        driver = cuda_driver()
        self._pinned[INPUT][...] = image
        self._cuda.push()
        try:
            self._run(driver)
        except driver.Error as err:
            raise EngineError(f"{self.package.title} failed on an image: {last_line(err)}") from err
        finally:
            driver.Context.pop()
        self._outputs.finish()
        return self._output

    def close_impl(self) -> None:
        """Free engine, memory and stream in the GPU's context."""
        self._cuda.push()
        try:
            self._release()
        finally:
            cuda_driver().Context.pop()
        self._cuda = None

    def _release(self) -> None:
        self._loaded = self._output = self._stream = None
        self._memory.clear()
        self._pinned.clear()
