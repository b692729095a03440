"""What the harness drives: a system under test and the samples that it is given.

In scope here: when a query is issued, how long each of its stages took, how many, how sure. Out of scope: the
model, what a sample holds, whether an answer is right (`edgead verify`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from edgead.errors import DatasetError, EngineError

if TYPE_CHECKING:
    from edgead.imaging.frame import Frame
    from edgead.types import Prediction

Sample = TypeVar("Sample")
SampleIn = TypeVar("SampleIn", contravariant=True)

STAGES = ("preprocess", "engine", "post")
# In the order of a frame's way. Runtimes on a GPU also report the copies.
KNOWN_STAGES = ("preprocess", "host_to_device", "engine", "device_to_host", "post")


class SystemUnderTest(Protocol[SampleIn]):
    """Answers one query at a time."""

    @property
    def name(self) -> str:
        """What the report calls it: a target."""

    @property
    def runtime(self) -> str:
        """Who drives the engine: native, python or null."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that `issue` times, in its order."""

    def issue(self, sample: SampleIn) -> tuple[int, ...]:
        """Answer one query and return what each stage took, in ns.

        Raises:
            EngineError: no valid answer came.
        """


class SampleLibrary(Generic[Sample]):
    """Samples in memory, issued in rotation, so that no cache sees the same one twice in a row."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        """Keep `samples`.

        Raises:
            DatasetError: there are none.
        """
        if not samples:
            raise DatasetError("there is no sample to measure with; give at least one readable image")
        self._samples = tuple(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


class Predictor(Protocol):
    """Anything that turns a frame into a `Prediction`, such as an opened session."""

    def predict(self, frame: Frame) -> Prediction:
        """Answer one frame."""


class PredictorSut:
    """A `Predictor` as the system under test, with the stage times that its predictions carry.

    Args:
        predictor: answers frames.
        name: of the target.
        runtime: who drives it.
        stages: which of `KNOWN_STAGES` its predictions carry, see `stages_of`.
    """

    def __init__(
        self, predictor: Predictor, *, name: str, runtime: str, stages: tuple[str, ...] = STAGES
    ) -> None:
        self._predict = predictor.predict
        self.name = name
        self.runtime = runtime
        self.stages = stages

    def issue(self, sample: Frame) -> tuple[int, ...]:
        """Predict one frame.

        Raises:
            EngineError: the decision was ERROR, which is no answer however fast it came.
        """
        prediction = self._predict(sample)
        if prediction.decision == "ERROR":
            raise EngineError(f"{self.name}: a prediction ended in ERROR; look at it with: edgead run")
        timings = prediction.timings_ms
        return tuple([round(timings[stage] * 1e6) for stage in self.stages])


def stages_of(prediction: Prediction) -> tuple[str, ...]:
    """The stages that this prediction's runtime times."""
    return tuple(stage for stage in KNOWN_STAGES if stage in prediction.timings_ms)


class DecodingSut:
    """A system under test that is given image files in memory, and decodes them first.

    Args:
        sut: answers the frames.
        decode: makes a frame of a file's bytes.
    """

    def __init__(self, sut: SystemUnderTest[Frame], decode: Callable[[bytes], Frame]) -> None:
        self._issue, self._decode = sut.issue, decode
        self.name, self.runtime = sut.name, sut.runtime
        self.stages = ("decode", *sut.stages)

    def issue(self, sample: bytes) -> tuple[int, ...]:
        """Decode and predict.

        Raises:
            ImageError: the bytes are no image.
            EngineError: no valid answer came.
        """
        begin = time.perf_counter_ns()
        frame = self._decode(sample)
        return (time.perf_counter_ns() - begin, *self._issue(frame))


class NullSut:
    """Answers at once: what is measured then is the harness."""

    name = "null"
    runtime = "null"
    stages = STAGES

    def issue(self, sample: object) -> tuple[int, ...]:
        """Do nothing."""
        return (0, 0, 0)
