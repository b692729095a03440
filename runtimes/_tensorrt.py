"""TensorRT and TensorRT-RTX: loading their packages, and what says, beside a plan, where it may run."""

from __future__ import annotations

import importlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.errors import BundleError, EngineError, RuntimeMissingError, UsageError
from edgead.types import Target

IDENTITY = "engine.json"
"""Beside the plan; an `EngineIdentity`."""

_VERSION = 1
_MAX_BYTES = 1 << 20
_ADVICE = "the ONNX part of the bundle is good all the same: onnxruntime runs graph.onnx"


@dataclass(frozen=True, slots=True)
class Package:
    """One of the two libraries, which have the same interface.

    Attributes:
        engine: edgead's name of the engine, and of the Python module.
        title: for messages.
        install: what to give to pip.
    """

    engine: str
    title: str
    install: str

    def load(self) -> Any:
        """The Python module.

        Raises:
            RuntimeMissingError: it is not installed, or does not load.
        """
        try:
            return importlib.import_module(self.engine)
        except ModuleNotFoundError as err:
            raise RuntimeMissingError(
                f"{self.title} is not installed: pip install '{self.install}'; {_ADVICE}"
            ) from err
        except (ImportError, OSError, RuntimeError) as err:
            raise RuntimeMissingError(
                f"{self.title} is installed and does not load ({err}): pip install --force-reinstall "
                f"'{self.install}'; {_ADVICE}"
            ) from err


TENSORRT = Package("tensorrt", "TensorRT", "edgead[tensorrt]")
TENSORRT_RTX = Package("tensorrt_rtx", "TensorRT-RTX", "edgead[tensorrt-rtx]")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineIdentity:
    """Where a plan may run: looked at before the library sees the plan.

    Attributes:
        engine: ``tensorrt`` or ``tensorrt_rtx``.
        engine_version: of the library; another one does not read the plan.
        machine: instruction set architecture of the host (``x86_64``, ``aarch64``).
        device: GPU that it was built on, ``any`` where none was there.
        compute_capabilities: those that it runs on (``8.6``); empty for every one from `least` on.
        least: least compute capability (``8.0``); used where `compute_capabilities` is empty.
        detector: for messages.
    """

    engine: str
    engine_version: str
    machine: str
    device: str
    compute_capabilities: tuple[str, ...]
    least: str
    detector: str

    def to_json(self) -> bytes:
        """UTF-8 JSON that `read` reads back as an equal value."""
        return (json.dumps({"version": _VERSION, **asdict(self)}, indent=2) + "\n").encode()

    @property
    def features(self) -> tuple[str, ...]:
        """As a manifest names GPUs: ``sm_86``; ``sm_80+`` for that one and every later one."""
        named = [f"sm_{capability.replace('.', '')}" for capability in self.compute_capabilities]
        return tuple(named) or (f"sm_{self.least.replace('.', '')}+",)

    @classmethod
    def read(cls, plan: Path) -> EngineIdentity:
        """The identity beside `plan`.

        Raises:
            EngineError: there is none.
            BundleError: it is not what `to_json` writes.
        """
        file = plan.with_name(IDENTITY)
        if not file.is_file():
            raise EngineError(
                f"{plan.name} has no {IDENTITY} beside it, so nobody knows where it may run; export it again"
            )
        try:
            data = file.read_bytes()
            if len(data) > _MAX_BYTES:
                raise ValueError(f"{len(data):,} bytes")
            values = json.loads(data)
            if values.pop("version") != _VERSION:
                raise BundleError(f"{file.name} was written by a newer edgead; upgrade")
            values["compute_capabilities"] = tuple(values["compute_capabilities"])
            found = cls(**values)
            for capability in (*found.compute_capabilities, found.least):
                parse_capability(capability)
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as err:
            raise BundleError(f"{file.name} does not say where the engine may run: {err}") from err
        return found

    def check_host(self, engine: str, version: str, machine: str | None = None) -> None:
        """Refuse a plan of another library, version or processor.

        Args:
            engine: the library that is here.
            version: its version.
            machine: the host's architecture; None = this one's.

        Raises:
            EngineError: the plan is not for here; the message says what to do.
        """
        machine = machine or platform.machine()
        if (self.engine, self.machine) != (engine, machine):
            raise EngineError(
                f"the plan is of {self.engine} for {self.machine}, here is {engine} on {machine}; export it "
                f"again on this machine; {_ADVICE}"
            )
        if self.engine_version != version:
            raise EngineError(
                f"the plan was built by {engine} {self.engine_version}, here is {version}, which does not "
                f"read it; install {engine} {self.engine_version}, or export again with {version}; {_ADVICE}"
            )

    def check_device(self, name: str, capability: tuple[int, int]) -> None:
        """Refuse a GPU that the plan was not built for.

        Args:
            name: the GPU's, for the message.
            capability: its compute capability.

        Raises:
            EngineError: the plan is not for it; the message says what to do.
        """
        built = {parse_capability(text) for text in self.compute_capabilities}
        if capability in built if built else capability >= parse_capability(self.least):
            return
        raise EngineError(
            f"the plan was built for {', '.join(self.features)} ({self.device}), this GPU, {name}, is "
            f"sm_{capability[0]}{capability[1]}; export again on it, or for it; {_ADVICE}"
        )


def parse_capability(text: str) -> tuple[int, int]:
    """(8, 6) of ``8.6``.

    Raises:
        UsageError: it is not of that form.
    """
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        raise UsageError(f"compute capability {text!r}: write it as 8.6")
    return int(major), int(minor)


def device_index(target: Target) -> int:
    """Which GPU a target asks for: ``cuda`` is the first, ``cuda1`` the second.

    Raises:
        EngineError: its device is no GPU.
    """
    number = target.device.removeprefix("cuda")
    if not target.device.startswith("cuda") or (number and not (number.isascii() and number.isdigit())):
        raise EngineError(
            f"{target}: {target.engine} runs on a GPU; write {target.engine}:{target.precision}:cuda, or "
            "cuda1 for the second one"
        )
    return int(number or 0)
