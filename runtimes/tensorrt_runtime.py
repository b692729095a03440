"""TensorRT: runs a plan on an NVIDIA GPU, image and map in host memory; `DeviceEngine` is its inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgead.errors import RuntimeMissingError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.runtimes._cuda import cuda_driver, cuda_missing, device_facts
from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._graph import MapOutputs, check_file
from edgead.runtimes._tensorrt import TENSORRT, Package, device_index
from edgead.runtimes._tensorrt_engine import TensorRTEngine
from edgead.runtimes.cuda.host_io import HostIo
from edgead.runtimes.cuda.pycuda_device import PycudaDevice
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.runtimes.cuda._device import Device


class TensorRTRuntime(Runtime):
    """One stream, pinned host and device memory bound once; `open` runs the engine a few times.

    Nothing of a plan has run in edgead's own tests, whose machine has no GPU.
    """

    engine = "tensorrt"
    precisions = ("fp32", "fp16", "int8")
    package: ClassVar[Package] = TENSORRT

    def __init__(self) -> None:
        super().__init__()
        self._device: PycudaDevice | None = None
        self._io: HostIo | None = None
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

    def on_device(self, graph: Path, target: Target, device: Device) -> DeviceEngine:
        """The plan itself."""
        self.package.load()
        check_file(graph)
        return TensorRTEngine(graph, self.package, device_facts(device.index), MapOutputs())

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Deserialise, allocate, warm up; `threads` says nothing to a GPU."""
        index = device_index(target)
        self.package.load()
        cuda_driver()
        check_file(graph)
        self._device = PycudaDevice(index, str(target))
        try:
            with self._device as device:
                loaded = self.on_device(graph, target, device)
                self._io = HostIo(device, loaded)
                self._output = MapOutputs().bind(graph, self._io.outputs)
            return loaded.input_shape
        except BaseException:
            self.close_impl()
            raise

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Copy the image to pinned memory and from there, run, copy the map back."""
        assert self._device is not None
        assert self._io is not None
        assert self._output is not None
        with self._device:
            self._io.run(image)
        return self._output

    def close_impl(self) -> None:
        """Free engine, memory and stream in the GPU's context."""
        assert self._device is not None
        with self._device:
            self._io = self._output = None
        self._device.close()
        self._device = None
