"""Frames to scores, maps and masks on one GPU: pixels go in once, what is wanted comes out once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edgead.errors import EngineError, ImageError, InternalError
from edgead.imaging.device_frame import DeviceFrame
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import heatmap_range
from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._graph import INPUT, MAP, SCORE
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda._step import Step, engine_memory
from edgead.runtimes.cuda.post import CudaPost, PostFound
from edgead.runtimes.cuda.preprocess import CudaPreprocess
from edgead.types import Geometry, PostRecipe, Thresholds

if TYPE_CHECKING:
    import numpy.typing as npt

_PLANS = 8  # of frame sizes and formats, as Preprocess keeps them
_PARTS = 4  # of a frame: one is on its way to the device while the next is copied to where it starts from


@dataclass(frozen=True, slots=True)
class Wanted:
    """What comes to the host beside the scores; the rest is not computed."""

    anomaly_map: bool = True
    mask: bool = True
    heatmap: bool = True


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds of one run that add up to all of it.

    Attributes:
        preprocess: the copy to pinned memory and whatever is not below.
        engine: on the device.
        post: on the device, copies to the host included.
    """

    preprocess: float
    engine: float
    post: float


EVERYTHING, MAP_ONLY = Wanted(), Wanted(mask=False, heatmap=False)


class CudaPipeline:
    """Preprocess → engine (→ its search) → post in one stream. One thread at a time.

    The preprocess kernels are launched for each frame: where a frame lies and how large it is may change, and
    a frame in device memory is read in place. Engine and post are recorded once each; post again for
    everything else that is wanted. A search behind a query graph belongs to the engine: the `DeviceEngine`
    that has one puts it into the stream behind its network.

    Attributes:
        timings: of the last run.
    """

    def __init__(
        self,
        device: Device,
        engine: DeviceEngine,
        geometry: Geometry,
        recipe: PostRecipe,
        operator: tuple[Banded, Banded],
    ) -> None:
        """Take memory, warm the engine up, record it.

        Args:
            device: where everything happens; it stays open as long as the pipeline.
            engine: of the same context.
            geometry: from frames to the engine's pixels.
            recipe: from the engine's maps to scores.
            operator: (M_h, M_w) of the recipe.

        Raises:
            EngineError: not enough memory, the engine fails, or its tensors do not fit geometry and recipe.
        """
        self._device, self._engine = device, engine
        self._geometry, self._recipe, self._operator = geometry, recipe, operator
        self._images = engine.input_shape[0]
        _check(engine, geometry, recipe)
        self._plans: dict[tuple[str, int, int], CudaPreprocess] = {}
        self._posts: dict[Wanted, tuple[CudaPost, Step]] = {}
        self._limits: dict[Wanted, Thresholds] = {}
        with device:
            self._addresses = engine_memory(device, engine)
            self._pixels = device.pinned(engine.input_shape, "uint8")
            self._staging = [_Staging(device) for _ in range(self._images)]
            self._markers = tuple(device.marker() for _ in range(3))
            self._step = Step(device, lambda: engine.enqueue(self._addresses, device.stream))
        self.timings = Timings(0.0, 0.0, 0.0)

    @property
    def why_plain(self) -> dict[str, str]:
        """Step → why it is not one CUDA graph; empty where all are."""
        steps = {
            "engine": self._step,
            **{f"post of {wanted}": step for wanted, (_, step) in self._posts.items()},
        }
        return {name: step.why_plain for name, step in steps.items() if step.why_plain}

    def prepare(self, wanted: Wanted) -> None:
        """Do now what the first run for `wanted` would do before it.

        Raises:
            EngineError: not enough memory.
            UsageError: the recipe cannot be run; another thread is inside.
        """
        with self._device:
            self._post(wanted)

    def run(
        self, frames: Sequence[Frame | DeviceFrame], limits: Thresholds, wanted: Wanted = EVERYTHING
    ) -> tuple[PostFound, ...]:
        """Judge one frame per image of the engine's batch.

        Args:
            frames: N, each of any size and format, in host memory or the device's.
            limits: `pixel` makes the mask, `display_range` the heatmap.
            wanted: what is to be found.

        Returns:
            What was found in each, in host memory, to keep.

        Raises:
            ImageError: a frame does not fit the geometry, or lies on another GPU.
            EngineError: not enough memory, or something on the device failed.
            UsageError: another thread is inside.
        """
        if len(frames) != self._images:
            raise InternalError(f"{len(frames)} frames for an engine of {self._images} images at a time")
        begin = time.perf_counter_ns()
        with self._device:
            size = self._pixels[0].nbytes
            for place, frame in enumerate(frames):
                self._preprocess(place, frame, self._addresses[INPUT] + place * size)
            return self._found(begin, limits, wanted)

    def run_pixels(
        self, pixels: npt.NDArray[np.uint8], limits: Thresholds, wanted: Wanted = EVERYTHING
    ) -> tuple[PostFound, ...]:
        """The same of what the network sees, (N, H, W, 3) uint8 RGB.

        Raises:
            InternalError: an array of another shape or type.
            EngineError: something on the device failed.
            UsageError: another thread is inside.
        """
        if pixels.shape != self._pixels.shape or pixels.dtype != np.uint8:
            raise InternalError(
                f"the network's input is uint8 {self._pixels.shape}, not {pixels.dtype} {pixels.shape}"
            )
        begin = time.perf_counter_ns()
        with self._device:
            self._pixels[...] = pixels
            self._device.copy_in(self._addresses[INPUT], self._pixels)
            return self._found(begin, limits, wanted)

    def close(self) -> None:
        """Let go of what the device gave; it may be closed then."""
        with self._device:
            for plan in self._plans.values():
                plan.close()
            self._plans.clear()
            self._posts.clear()
            self._staging.clear()
            del self._pixels, self._step, self._engine  # its own memory, too, is of this context

    def _preprocess(self, place: int, frame: Frame | DeviceFrame, out: int) -> None:
        device = self._device
        plan = self._plan(frame)
        if isinstance(frame, Frame):
            address, stride = self._staging[place].put(frame, plan.rows)
            plan.enqueue(address, stride, out)
            return
        if (index := device.owner(frame.address)) != device.index:
            where = "in no GPU's memory" if index is None else f"on the GPU cuda{index}"
            raise ImageError(
                f"the frame lies {where}, this session runs on cuda{device.index}; make it there, open the "
                f"target on its GPU, or give Frame(…) of a copy in host memory"
            )
        if frame.stream is not None:
            device.wait_for(frame.stream)
        plan.enqueue(frame.address, frame.row_stride, out)

    def _plan(self, frame: Frame | DeviceFrame) -> CudaPreprocess:
        key = (frame.pixel_format, frame.height, frame.width)
        plan = self._plans.pop(key, None) or CudaPreprocess(self._device, self._geometry, key[0], key[1:])
        self._plans[key] = plan  # at the end: the first one is the least recently used
        if len(self._plans) > _PLANS:
            oldest = self._plans.pop(next(iter(self._plans)))
            self._device.synchronize()  # another image of this batch may be reading its tables
            oldest.close()
        return plan

    def _found(self, begin: int, limits: Thresholds, wanted: Wanted) -> tuple[PostFound, ...]:
        post, step = self._post(wanted)
        if self._limits.get(wanted) != limits:
            post.set_limits(limits, heatmap_range(limits))
            self._limits[wanted] = limits
        preprocessed, inferred, done = self._markers
        preprocessed.record()
        self._step.enqueue()
        inferred.record()
        step.enqueue()
        done.record()
        self._device.synchronize()
        self._engine.check()
        found = tuple(post.found(image) for image in range(self._images))
        engine_ms, post_ms = inferred.ms_since(preprocessed), done.ms_since(inferred)
        all_ms = (time.perf_counter_ns() - begin) / 1e6
        self.timings = Timings(max(0.0, all_ms - engine_ms - post_ms), engine_ms, post_ms)
        return found

    def _post(self, wanted: Wanted) -> tuple[CudaPost, Step]:
        if wanted not in self._posts:
            raw, score = self._addresses[MAP], self._addresses.get(SCORE, 0)
            post = CudaPost(
                self._device,
                self._recipe,
                self._operator,
                images=self._images,
                raw_type="float16" if self._engine.outputs[MAP].dtype == "float16" else "float32",
                **asdict(wanted),
            )
            self._posts[wanted] = (post, Step(self._device, lambda: post.enqueue(raw, score)))
        return self._posts[wanted]


class _Staging:
    """Where a host frame starts from and arrives, as large as the largest one yet."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._address, self._size = 0, 0

    def put(self, frame: Frame, rows: tuple[int, int]) -> tuple[int, int]:
        """Send `rows` of the frame, packed. (address that the first row of all would have, row stride)."""
        device, data = self._device, frame.data
        stride = int(data[:1].nbytes)
        if stride * frame.height > self._size:
            if self._address:
                device.synchronize()
                device.free(self._address)
                self._address = self._size = 0
            size = stride * frame.height
            self._address = device.allocate(size, f"a frame of {frame.width}x{frame.height}")
            self._host = device.pinned((size,), "uint8")
            self._size = size
        packed = self._host[: stride * frame.height].view(data.dtype).reshape(data.shape)
        first, end = rows
        edges = [first + (end - first) * part // _PARTS for part in range(_PARTS + 1)]
        for top, bottom in pairwise(edges):
            if top < bottom:
                packed[top:bottom] = data[top:bottom]
                device.copy_in(self._address + top * stride, packed[top:bottom])
        return self._address, stride


def _check(engine: DeviceEngine, geometry: Geometry, recipe: PostRecipe) -> None:
    """Whether the engine's tensors are those of geometry and recipe."""
    images, *size, _ = engine.input_shape
    if tuple(size) != geometry.input_size:
        raise EngineError(
            f"the engine's input is {size[0]}x{size[1]}, the geometry gives {geometry.input_size}; export "
            "the MODEL again"
        )
    wanted = (images, recipe.channels, *recipe.grid)
    if (shape := engine.outputs[MAP].shape) != wanted:
        raise EngineError(f"the engine's {MAP} is {shape}, the recipe takes {wanted}; export the MODEL again")
    if SCORE in engine.outputs and engine.outputs[SCORE].dtype != "float32":
        raise EngineError(f"the engine's {SCORE} is {engine.outputs[SCORE].dtype}, it must be float32")
