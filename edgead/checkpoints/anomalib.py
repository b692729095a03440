"""Checkpoints of anomalib's EfficientAd: Lightning's ``.ckpt`` of anomalib 0.7, 1 and 2.

The networks stand under ``model.`` in the state dict, with statistics and quantiles beside them. Enums,
paths, transforms and whatever else such a file holds are not built (`Inert`). Thresholds, in anomalib's raw
units, go to the MODEL's provenance: edgead's own come from good images, at export.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgead.backbones import _restricted_pickle
from edgead.checkpoints._base import Calibration, Imported
from edgead.checkpoints._efficientad_calibration import complete, set_pairs
from edgead.checkpoints.efficientad import PRESETS_BY_SIZE
from edgead.detectors._efficientad_weights import fill, identify, told
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress

DEFAULT_PRESET = "efficientad"
WHOLE_FRAME = True

_PREFIX = "model."
_NETWORKS = ("teacher", "student", "ae")
_QUANTILES = ("qa_st", "qb_st", "qa_ae", "qb_ae")
# A key that tells another of anomalib's models.
_OTHERS = {
    "memory_bank": "Patchcore",
    "gaussian.mean": "Padim",
    "fast_flow_blocks": "Fastflow",
    "teacher_model": "Stfpm",
    "bottleneck": "ReverseDistillation",
}
# Name here to the names there, the newest first.
_LIMITS = {
    "image_threshold": ("post_processor._image_threshold", "image_threshold.value"),
    "pixel_threshold": ("post_processor._pixel_threshold", "pixel_threshold.value"),
    "image_min": (
        "post_processor.image_min",
        "normalization_metrics.pred_scores.min",
        "normalization_metrics.min",
    ),
    "image_max": (
        "post_processor.image_max",
        "normalization_metrics.pred_scores.max",
        "normalization_metrics.max",
    ),
    "pixel_min": (
        "post_processor.pixel_min",
        "normalization_metrics.anomaly_maps.min",
        "normalization_metrics.min",
    ),
    "pixel_max": (
        "post_processor.pixel_max",
        "normalization_metrics.anomaly_maps.max",
        "normalization_metrics.max",
    ),
}


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
        config: a preset's config; size and padding are read from the file.
        weights: must be None: the teacher is in the file.
        calib: good images or a side-car; only for a file whose training had not set its statistics.
        progress: bars of the computation on `calib`.

    Raises:
        UsageError: `weights` is given, or `calib` although the file lacks nothing, or the file names another
            input size than `config`.
        WeightsError: not a checkpoint of EfficientAd, damaged, or unfinished and without `calib`.
    """
    if weights is not None:
        raise UsageError(f"--weights {weights}: the teacher is part of the checkpoint; leave it out")
    content = _restricted_pickle.load(checkpoint, inert=None)
    state = _state(checkpoint, content)
    parts = {name: _part(state, _PREFIX + name + ".") for name in _NETWORKS}
    size = _size(checkpoint, state, parts)
    options = content.get("hyper_parameters")
    options = options if isinstance(options, Mapping) else {}
    detector = EfficientAd.from_config(
        {
            **config,
            "size": size,
            "padding": _flag(options, "padding", default=False),
            "map_padding": 4 if _flag(options, "pad_maps", default=True) else 0,
            "map_order": "upsample_then_quantile",
        }
    )
    _check_size(detector, checkpoint, content.get("anomalib_pre_processor_config"))
    fill(detector.teacher, f"a {size} teacher", parts["teacher"], checkpoint)
    fill(detector.student, f"a {size} student", parts["student"], checkpoint)
    fill(detector.ae, "an autoencoder", parts["ae"], checkpoint)
    detector.eval()
    if not _take_statistics(detector, checkpoint, state):
        complete(detector, checkpoint, calib, progress=progress)
    elif calib is not None:
        raise UsageError(f"--calib {calib.path}: {checkpoint} has its statistics and quantiles; leave it out")
    return Imported(detector, preset=PRESETS_BY_SIZE[size], notes={"anomalib": _limits(state)})


def _state(checkpoint: Path, content: object) -> dict[str, Tensor]:
    """The tensors of the state dict; its texts (names of metric classes) are left out."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{checkpoint} is no checkpoint of Lightning: it holds no state_dict; an exported model.pt is "
            "none either: give weights/lightning/model.ckpt"
        )
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _size(checkpoint: Path, state: Mapping[str, Tensor], parts: Mapping[str, Mapping[str, Tensor]]) -> str:
    missing = [name for name, tensors in parts.items() if not tensors]
    if missing:
        others = [name for key, name in _OTHERS.items() if any(key in entry for entry in state)]
        looks = f"it looks like {others[0]}" if others else f"it holds {told(state)}"
        raise WeightsError(
            f"{checkpoint} is no checkpoint of EfficientAd: it has no {', '.join(missing)}; {looks}"
        )
    kinds = {name: identify(parts[name]) for name in ("teacher", "student")}
    teacher, student = kinds["teacher"], kinds["student"]
    if teacher is None or student is None or teacher[0] != student[0] or teacher[1] != "teacher":
        raise WeightsError(
            f"{checkpoint}: as teacher it holds {told(parts['teacher'])}, as student "
            f"{told(parts['student'])}; edgead reads teachers of 384 channels, students of 768, of one size"
        )
    return teacher[0]


def _check_size(detector: EfficientAd, checkpoint: Path, config: object) -> None:
    """Compare with the Resize that newer versions write down; older ones say nothing."""
    sizes = list(_resizes(config))
    height, width = detector.geometry.input_size
    if sizes and sizes[-1] != [height, width]:
        raise UsageError(
            f"{checkpoint} was trained on images of {'×'.join(map(str, sizes[-1]))}, not {height}×{width}; "
            "give that side with --input-size"
        )


def _resizes(config: object) -> Iterator[list[int]]:
    """(H, W) of every Resize in a nested config, in order."""
    if isinstance(config, Mapping):
        options = config.get("init_args")
        if str(config.get("class_path", "")).endswith(".Resize") and isinstance(options, Mapping):
            size = options.get("size")
            size = [size, size] if isinstance(size, int) else size
            if isinstance(size, list) and len(size) == 2:
                yield size
        for value in config.values():
            yield from _resizes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _resizes(value)


def _flag(options: Mapping[Any, Any], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    return value if isinstance(value, bool) else default


def _take_statistics(detector: EfficientAd, checkpoint: Path, state: Mapping[str, Tensor]) -> bool:
    """Set statistics and quantiles where the file has them; anomalib leaves zeros where it has not."""
    statistics = [state.get(f"model.mean_std.{name}") for name in ("mean", "std")]
    quantiles = [state.get(f"model.quantiles.{name}") for name in _QUANTILES]
    found = [[value for value in group if value is not None] for group in (statistics, quantiles)]
    unset = any(all(not bool(value.any()) for value in group) for group in found)
    if unset or len(found[0]) != len(statistics) or len(found[1]) != len(quantiles):
        return False
    mean, std = (value.flatten() for value in found[0])
    sound = bool(mean.isfinite().all() and std.isfinite().all() and (std > 0).all())
    if len(mean) != len(std) or len(mean) != len(detector.teacher_mean) or not sound:
        raise WeightsError(
            f"{checkpoint}: model.mean_std holds no {len(detector.teacher_mean)} positive deviations"
        )
    detector.teacher_mean.copy_(mean.view(-1, 1, 1))
    detector.teacher_std.copy_(std.view(-1, 1, 1))
    pairs = torch.stack([value.detach().double().reshape(()) for value in found[1]]).view(2, 2)
    set_pairs(detector, checkpoint, pairs)
    return True


def _limits(state: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Thresholds and normalisation in anomalib's raw units; None where the file has none."""
    limits: dict[str, float | None] = {}
    for name, keys in _LIMITS.items():
        values = [float(state[key]) for key in keys if key in state and state[key].numel() == 1]
        limits[name] = next((value for value in values if math.isfinite(value)), None)
    return limits
