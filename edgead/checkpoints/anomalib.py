"""Checkpoints of anomalib: Lightning's ``.ckpt`` of anomalib 0.7, 1 and 2, one file here per model.

Thresholds, in anomalib's raw units, go to the MODEL's provenance: edgead's own come from good images, at
export.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgead.checkpoints import (
    _anomalib_efficientad,
    _anomalib_fastflow,
    _anomalib_padim,
    _anomalib_patchcore,
    _anomalib_reverse_distillation,
    _anomalib_stfpm,
)
from edgead.checkpoints._anomalib_file import AnomalibFile, load
from edgead.checkpoints._base import Calibration, Imported
from edgead.detectors._efficientad_weights import told
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress

DEFAULT_PRESET = "efficientad"
WHOLE_FRAME = True

# Beginnings of keys that tell the model; the first that fits counts.
_MARKS = {
    "model.memory_bank": "Patchcore",
    "model.gaussian.": "Padim",
    "model.fast_flow_blocks.": "Fastflow",
    "model.teacher_model.": "Stfpm",
    "model.bottleneck.": "ReverseDistillation",
    "model.teacher.": "EfficientAd",
    "model.student.": "EfficientAd",
    "model.ae.": "EfficientAd",
}
# The models that are read, without and with a use for good images.
_READERS = {
    "Fastflow": _anomalib_fastflow.read,
    "Padim": _anomalib_padim.read,
    "Patchcore": _anomalib_patchcore.read,
    "ReverseDistillation": _anomalib_reverse_distillation.read,
    "Stfpm": _anomalib_stfpm.read,
}
_CALIBRATED = {"EfficientAd": _anomalib_efficientad.read}


def read(
    checkpoint: Path,
    config: Mapping[str, Any],
    *,
    weights: Path | None,
    calib: Calibration | None = None,
    progress: Progress,
) -> Imported:
    """The detector in `checkpoint`.

    Args:
        checkpoint: the ``.ckpt`` file.
        config: a preset's config; only its geometry counts, the file says the rest.
        weights: must be None: backbone or teacher are in the file.
        calib: good images or a side-car; only for an EfficientAd whose training had not set its statistics.
        progress: bars of the computation on `calib`.

    Raises:
        UsageError: `weights` is given, or `calib` or a ``tap_dim`` that the model has no use for, or the file
            names another input size than `config`.
        WeightsError: not a checkpoint of a model that is read here, damaged, or unfinished.
    """
    if weights is not None:
        raise UsageError(
            f"--weights {weights}: the teacher or backbone is part of the checkpoint; leave it out"
        )
    if "tap_dim" in config:
        raise UsageError(f"tap_dim {config['tap_dim']}: no model of anomalib has one; leave it out")
    file = load(checkpoint)
    model = _model(file)
    geometry = config["geometry"]
    if model in _CALIBRATED:
        made = _CALIBRATED[model](file, geometry, calib=calib, progress=progress)
    elif calib is not None:
        raise UsageError(f"--calib {calib.path}: a checkpoint of {model} lacks nothing; leave it out")
    else:
        made = _READERS[model](file, geometry)
    return dataclasses.replace(made, notes={"anomalib": file.limits()})


def _model(file: AnomalibFile) -> str:
    """Which model the file holds.

    Raises:
        WeightsError: none that is read here.
    """
    found = next(
        (name for mark, name in _MARKS.items() if any(key.startswith(mark) for key in file.state)), None
    )
    if found is None:
        readable = ", ".join(sorted({*_CALIBRATED, *_READERS}))
        raise WeightsError(
            f"{file.path} is none of a known model: it holds {told(file.state)}; edgead reads {readable} of "
            "anomalib"
        )
    return found
