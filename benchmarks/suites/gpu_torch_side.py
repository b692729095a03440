"""The torch side of `gpu_headline.py`: networks without an engine, their FLOPs, and the card's fp16 peak.

    python benchmarks/suites/gpu_torch_side.py [--device cuda]

Run alone it prints the peak of a large matrix product. Only this file and what exports graphs need torch.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgead.detectors._presets import PRESETS
from edgead.detectors._registry import detector_class
from edgead.errors import EngineError
from edgead.runtimes._base import RawOutput
from edgead.runtimes._device_engine import DeviceTensor
from edgead.runtimes._graph import INPUT, MAP, SCORE

SEED = 20261125
# Memories as large as those of a real line: an MVTec category's images, and the preset's own most.
MEMORIES = {"cpr": {"references": 209}, "patchcore": {"vectors": 4000}}
_PEAK_SIDE, _PEAK_RUNS, _PEAK_WARM_UP = {"cuda": 8192, "cpu": 512}, 50, 10
_WARM_UP = 3
_SHORT = {"fp16": torch.float16, "bf16": torch.bfloat16}
_PRODUCTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def random_detector(preset: str) -> Any:
    """The preset's detector with random weights, statistics and memory: as fast as a trained one."""
    entry = PRESETS[preset]
    torch.manual_seed(SEED)
    config = entry["config"] | MEMORIES.get(entry["detector"], {})
    detector = detector_class(entry["detector"]).from_config(config).eval()
    with torch.no_grad():
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
        # EfficientAD's are statistics that have to fit together; its defaults do.
        buffers = [] if entry["detector"] == "efficientad" else detector.named_buffers()
        for name, buffer in buffers:
            if "." in name or not buffer.is_floating_point() or name == "inv_covariance":
                continue
            values = torch.randn(buffer.shape)
            if name == "histograms":
                values = values.abs() / 10
            elif buffer.ndim == 4:
                values = values / values.norm(dim=1, keepdim=True)
            buffer.copy_(values)
    return detector


def flop(module: nn.Module, input_size: tuple[int, int]) -> int:
    """Floating-point operations of one image: 2 per multiply-accumulate of convolutions and products."""
    image = torch.zeros(1, *input_size, 3, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    return int(counter.get_total_flops())


def matmul_peak(device: str) -> float:
    """TFLOP/s of a large square matrix product, median of runs; fp16 on a GPU, fp32 on a CPU."""
    side = _PEAK_SIDE[device]
    kind = torch.float16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    times = []
    for turn in range(-_PEAK_WARM_UP, _PEAK_RUNS):
        _wait(device)
        begin = time.perf_counter()
        a @ b
        _wait(device)
        if turn >= 0:
            times.append(time.perf_counter() - begin)
    return 2 * side**3 / float(np.median(times)) / 1e12


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class TorchSide:
    """A detector as it was trained, channels last; one CUDA graph where it can be recorded. A `DeviceEngine`.

    In fp16, convolutions and linear layers have half-precision weights and the rest is chosen by autocast
    (norms, logarithms, roots and softmax in float32), as the fp16 graphs have it. bf16 likewise: CPUs compute
    fp16 very slowly. fp32 is without TF32.

    Attributes:
        input_shape: (N, H, W, 3).
        outputs: by name, all float32.
        why_eager: why no CUDA graph is used; empty where one is.
    """

    def __init__(self, detector: nn.Module, shape: tuple[int, int, int, int], precision: str, device: str):
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.input_shape, self._device, self._short = shape, device, _SHORT.get(precision)
        self._module = copy.deepcopy(detector).to(device=device, memory_format=torch.channels_last)
        if self._short is not None:
            for module in self._module.modules():
                if isinstance(module, _PRODUCTS):
                    module.to(self._short)
        self._image = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._graph: Any = None
        self.why_eager = "" if device == "cuda" else "no GPU"
        if device == "cuda":
            self._stream = torch.cuda.Stream()
            self._record()
        outputs = self._outputs if self._graph is not None else self._call()
        names = (MAP, SCORE)[: len(outputs)]
        self.outputs: Mapping[str, DeviceTensor] = {
            name: DeviceTensor(tuple(value.shape), "float32")
            for name, value in zip(names, outputs, strict=True)
        }
        self._views: dict[tuple[str, int], Tensor] = {}
        pinned = device == "cuda"
        self._host_image = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        self._host = [torch.zeros(value.shape, pin_memory=pinned) for value in outputs]
        self._pixels = self._host_image.numpy()
        arrays = [value.numpy() for value in self._host]
        self._output = RawOutput(arrays[0], arrays[1] if len(arrays) > 1 else None)

    def _call(self) -> list[Tensor]:
        # No cache of casts: a recorded graph would read memory that the cache has given back.
        short = self._short or torch.bfloat16
        on = self._short is not None
        cast = torch.autocast(self._device, short, enabled=on, cache_enabled=False)
        with torch.no_grad(), cast:
            return [value.float() for value in self._module(self._image) if value is not None]

    def _record(self) -> None:
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                self._call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._outputs = self._call()
        except RuntimeError as err:
            self.why_eager = str(err).splitlines()[0]
            torch.cuda.synchronize()
            return
        self._graph = graph

    def infer(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Pixels to pinned memory and the device, the network, the map back; valid until the next call."""
        self._pixels[...] = image
        if self._device == "cuda":
            with torch.cuda.stream(self._stream):
                self._run()
            self._stream.synchronize()
        else:
            self._run()
        return self._output

    def _run(self) -> None:
        self._image.copy_(self._host_image, non_blocking=True)
        for host, value in zip(self._host, self._results(), strict=True):
            host.copy_(value, non_blocking=True)

    def _results(self) -> list[Tensor]:
        if self._graph is None:
            return self._call()
        self._graph.replay()
        return self._outputs

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Put one run on `stream`; see `DeviceEngine.enqueue`."""
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            if torch.cuda.is_current_stream_capturing():
                raise EngineError("torch has a CUDA graph of its own, or cannot be recorded")
            self._image.copy_(self._view(INPUT, addresses[INPUT], self.input_shape, "|u1"))
            for (name, tensor), value in zip(self.outputs.items(), self._results(), strict=True):
                self._view(name, addresses[name], tensor.shape, "<f4").copy_(value)

    def _view(self, name: str, address: int, shape: tuple[int, ...], kind: str) -> Tensor:
        if (name, address) not in self._views:
            interface = {"version": 3, "shape": shape, "typestr": kind, "data": (address, False)}
            array = SimpleNamespace(__cuda_array_interface__=interface)
            self._views[name, address] = torch.as_tensor(array, device="cuda")
        return self._views[name, address]

    def close(self) -> None:
        """Give the device memory back."""
        self._graph = None
        self._outputs = []
        self._views.clear()
        self._module = nn.Identity()
        if self._device == "cuda":
            torch.cuda.empty_cache()


def facts(device: str) -> dict[str, str]:
    """What torch says of the device."""
    found = {"torch": torch.__version__}
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        found |= {
            "name": torch.cuda.get_device_name(),
            "compute_capability": f"{major}.{minor}",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }
    return found


def missing(device: str) -> str:
    """Why torch cannot use the device; empty where it can."""
    if device == "cpu" or torch.cuda.is_available():
        return ""
    built = "finds no GPU" if torch.version.cuda else "was built without CUDA"
    return f"torch {torch.__version__} {built}"


def main() -> int:
    """Print the peak."""
    parser = argparse.ArgumentParser(
        description="the peak of a large matrix product, as gpu_headline.py has it"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = parser.parse_args().device
    if why := missing(device):
        print(f"no peak: {why}", file=sys.stderr)
        return 2
    print(f"{matmul_peak(device):.4g} TFLOP/s, {facts(device)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
