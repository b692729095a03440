"""One opened target of a bundle: frame in, `Prediction` out."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from edgead.errors import EngineError, RuntimeMissingError, UsageError
from edgead.imaging.device_frame import DeviceFrame
from edgead.imaging.frame import Frame
from edgead.runtimes._cuda import driver_missing
from edgead.runtimes._driver import RUNTIMES, Driver, RawScores, RuntimeName
from edgead.runtimes._golden import require_golden
from edgead.runtimes._pipeline import PythonDriver
from edgead.runtimes._registry import engines
from edgead.runtimes.cuda.driver import CudaDriver
from edgead.runtimes.native_runtime import NativeDriver, may_open
from edgead.types import Geometry, Prediction, Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.manifest import TargetEntry
    from edgead.bundle.reader import Bundle


class Session:
    """One opened target of a bundle. Not for concurrent use: one session per thread.

    Attributes:
        target: the engine that runs.
        geometry: how a frame becomes the network's pixels.
        verified: whether the target ran where its bundle was made; one that did not has passed its self-test.
    """

    def __init__(self, driver: Driver, target: Target, geometry: Geometry, *, verified: bool = True) -> None:
        self._driver = driver
        self.target = target
        self.geometry = geometry
        self.verified = verified

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        target: Target | str | None = None,
        *,
        threads: int = 0,
        runtime: RuntimeName | None = None,
        self_test: bool = True,
    ) -> Session:
        """Open one target of `bundle`.

        Args:
            bundle: an open bundle; it must stay open as long as the session.
            target: which engine; an explicit one never falls back. None = the bundle's first target whose
                engine is installed here; `Session.target` says which it was.
            threads: compute threads of the engine, 0 = the engine's own choice.
            runtime: who drives it. ``native``: libedgead, frame to decision in one call. ``cuda``: an engine
                on an NVIDIA GPU with preprocessing and post kernel there, too. ``python``: the engine's own
                package, everything else on the CPU. All give the same results, and an explicit one never
                falls back. None = native or cuda where that can open this target; `Session.runtime` says
                which it was.
            self_test: ``native`` runs the golden images first, and refuses an engine that gives other values
                here; so do ``python`` and ``cuda`` with a target that was not verified where the bundle was
                made. False leaves that out, which such a target does not allow.

        Raises:
            UsageError: the bundle has no such target, there is no such runtime, or the self-test of a target
                that was not verified is to be left out.
            RuntimeMissingError: the target's engine, or with None every engine, is missing here.
            EngineError: the engine refuses the work on this machine, or failed its self-test.
        """
        _check(runtime)
        name = bundle.entry(str(target)).target if target is not None else first_available(bundle, runtime)
        entry = bundle.entry(name)
        if not (entry.verified or self_test):
            raise UsageError(
                f"{name} was not verified where the bundle was made, so its self-test cannot be left out"
            )
        session = cls._open(bundle, entry, threads, runtime, self_test)
        if not entry.verified and session.runtime != "native":
            try:
                require_golden(bundle, entry, session)
            except BaseException:
                session.close()
                raise
        return session

    @classmethod
    def unproven(
        cls,
        bundle: Bundle,
        target: Target | str,
        *,
        threads: int = 0,
        runtime: RuntimeName | None = None,
    ) -> Session:
        """Open `target` without its self-test: for who holds it against something else, as `verify` does.

        libedgead runs the self-test of a target that was not verified all the same.

        Raises:
            As `open`.
        """
        _check(runtime)
        return cls._open(bundle, bundle.entry(str(target)), threads, runtime, self_test=False)

    @classmethod
    def _open(
        cls, bundle: Bundle, entry: TargetEntry, threads: int, runtime: RuntimeName | None, self_test: bool
    ) -> Session:
        chosen = Target.parse(entry.target)
        try:
            driver = _driver(bundle, chosen, threads, runtime, self_test or not entry.verified)
        except RuntimeMissingError as err:
            if entry.verified:
                raise
            raise type(err)(
                f"{chosen} (not verified where the bundle was made) cannot run here: {err}"
            ) from err
        return cls(driver, chosen, bundle.manifest.geometry, verified=entry.verified)

    @property
    def runtime(self) -> RuntimeName:
        """Who drives the engine."""
        return self._driver.name

    @property
    def thresholds(self) -> Thresholds:
        """The limits that decide. They may be set; nothing is written to disk."""
        return self._driver.thresholds

    @thresholds.setter
    def thresholds(self, values: Thresholds) -> None:
        self._driver.thresholds = values

    @property
    def warning(self) -> str:
        """What to say before this target judges anything; empty for one that was verified."""
        if self.verified:
            return ""
        return (
            f"{self.target} was not verified where its bundle was made; its golden images are right here: "
            f"edgead verify BUNDLE DATA --target {self.target} tells what it makes of labelled ones"
        )

    def predict(self, frame: Frame | DeviceFrame) -> Prediction:
        """Judge one frame.

        Args:
            frame: in host memory, or, where `runtime` is ``cuda``, in that GPU's.

        Raises:
            UsageError: a frame in a GPU's memory for another runtime, or another thread is using the session.
            ImageError: the frame does not fit the bundle's geometry (an ROI outside it, for instance).
            EngineError: the engine failed.
        """
        if isinstance(frame, DeviceFrame):
            return self._on_a_gpu().predict(frame)
        return self._driver.predict(frame)

    def scores(self, frame: Frame | DeviceFrame) -> RawScores:
        """Raw score, maximum and map of one frame, for who chooses thresholds.

        Raises:
            As `predict`.
        """
        if isinstance(frame, DeviceFrame):
            return self._on_a_gpu().scores(frame)
        return self._driver.scores(frame)

    def scores_of(self, pixels: npt.NDArray[np.uint8]) -> RawScores:
        """The same of what the network sees: (1, H, W, 3) uint8 RGB of its input size.

        Raises:
            InternalError: an array of another shape or type.
            EngineError: the engine failed.
        """
        return self._driver.scores_of(pixels)

    def _on_a_gpu(self) -> CudaDriver:
        """The driver, where it reads frames in a GPU's memory."""
        if not isinstance(self._driver, CudaDriver):
            raise UsageError(
                f"the frame lies in a GPU's memory, and {self.target} is driven by {self.runtime}, which "
                "reads host memory; open a target on that GPU with runtime 'cuda', or give Frame(…) of a copy"
            )
        return self._driver

    def close(self) -> None:
        """Free the engine."""
        self._driver.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _driver(
    bundle: Bundle, target: Target, threads: int, runtime: RuntimeName | None, self_test: bool
) -> Driver:
    if runtime == "python":
        return PythonDriver.open(bundle, target, threads=threads)
    try:
        # libedgead drives a GPU only when asked to: its TensorRT is built on demand, and no test has run it.
        if runtime == "cuda" or (runtime is None and target.device.startswith("cuda")):
            return CudaDriver.open(bundle, target)
        return NativeDriver(bundle, target, threads=threads, self_test=self_test)
    except EngineError:
        raise
    except RuntimeMissingError:
        if runtime is not None:
            raise
        return PythonDriver.open(bundle, target, threads=threads)


def _check(runtime: RuntimeName | None) -> None:
    if runtime is not None and runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}; there is {', '.join(RUNTIMES)}")


def first_available(bundle: Bundle, runtime: RuntimeName | None = None) -> str:
    """The bundle's first target whose engine, and GPU where it needs one, is here.

    Args:
        bundle: an open bundle.
        runtime: who is to drive it; None = whoever can.

    Raises:
        RuntimeMissingError: none is; the message says why for each.
    """
    here = {} if runtime == "native" else engines()
    reasons = []
    for target in bundle.targets:
        engine, device = Target.parse(target).engine, Target.parse(target).device
        on_gpu = device.startswith("cuda")
        missing = driver_missing() if on_gpu else "it runs on no GPU" if runtime == "cuda" else ""
        if missing:
            reasons.append(f"{target}: {missing}")
            continue
        availability = here.get(engine)
        if availability is not None and availability.available:
            return target
        if runtime in (None, "native") and may_open(engine):
            return target
        why = availability.why if availability is not None else "libedgead finds no library of it here"
        reasons.append(f"{target}: {why}")
    raise RuntimeMissingError("no target of this bundle can run here: " + "; ".join(reasons))
