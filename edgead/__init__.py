"""edgead compiles image-anomaly detectors into verified engines for inspection lines.

The names below are the Python API; what else is in the package may change. Importing it loads neither numpy
nor any engine: a name is imported on first use. `train`, `export` and `verify` need the extras of the
workstation, the rest runs with what `pip install edgead` brings (`bench` with the extra ``bench``).

    with open_bundle("part.edgead") as bundle, Session.open(bundle) as session:
        prediction = session.predict(read_image("new.png"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.bundle.reader import open_bundle
    from edgead.imaging.device_frame import DeviceFrame
    from edgead.imaging.frame import Frame, read_image
    from edgead.runtimes.session import Session
    from edgead.types import Prediction, Region, Target
    from edgead.workflows.bench import bench
    from edgead.workflows.export import export
    from edgead.workflows.run import run
    from edgead.workflows.train import train
    from edgead.workflows.verify import verify

__version__ = "0.1.0"

__all__ = [
    "DeviceFrame",
    "Frame",
    "Prediction",
    "Region",
    "Session",
    "Target",
    "__version__",
    "bench",
    "export",
    "open_bundle",
    "read_image",
    "run",
    "train",
    "verify",
]

_HOMES = {
    "DeviceFrame": "edgead.imaging.device_frame",
    "Frame": "edgead.imaging.frame",
    "Prediction": "edgead.types",
    "Region": "edgead.types",
    "Session": "edgead.runtimes.session",
    "Target": "edgead.types",
    "bench": "edgead.workflows.bench",
    "export": "edgead.workflows.export",
    "open_bundle": "edgead.bundle.reader",
    "read_image": "edgead.imaging.frame",
    "run": "edgead.workflows.run",
    "train": "edgead.workflows.train",
    "verify": "edgead.workflows.verify",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgead' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, whether they were used or not."""
    return sorted({*globals(), *__all__})
