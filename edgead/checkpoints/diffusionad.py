"""Checkpoints of the authors' DiffusionAD code: ``params-best.pt`` or ``params-last.pt``.

A dict of both networks' state dicts, the epoch, and the settings as a ``defaultdict``, of which only the
items are read. The noise is not in it, that code draws it for every image: it is drawn here, once. The
authors chose *best* by the scores on the test images, so *last* is the one to compare with other methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgead.backbones import _restricted_pickle
from edgead.checkpoints._base import Calibration, Imported
from edgead.detectors.diffusionad import DiffusionAd
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress
from edgead.training._seeds import generator

DEFAULT_PRESET = "diffusionad_full"
WHOLE_FRAME = True

UNET, SEGMENTATION = "unet_model_state_dict", "seg_model_state_dict"
_FIRST = {UNET: "down.0.0.weight", SEGMENTATION: "encoder_segment.block1.0.weight"}
_WHAT = {UNET: "denoising network", SEGMENTATION: "segmentation network"}
# Of the noise, the same for every import.
_SEED = 42
_FULL_WIDTHS = (128, 64)
_COUNTER = "num_batches_tracked"


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
        checkpoint: the file.
        config: a preset's config; both networks' widths are read from the file.
        weights: must be None: every part is in the checkpoint.
        calib: must be None: nothing is lacking.
        progress: is told of an image size other than the training's.

    Raises:
        UsageError: `weights` or `calib` is given.
        WeightsError: the file is something else, lacks a network, or holds networks of another shape.
    """
    for name, value in (("weights", weights), ("calib", None if calib is None else calib.path)):
        if value is not None:
            raise UsageError(f"--{name} {value}: a DiffusionAD checkpoint is complete; leave it out")
    found = _restricted_pickle.load(checkpoint, inert=["builtins.str"], dicts=["collections.defaultdict"])
    states = {part: _state(checkpoint, found, part) for part in _WHAT}
    widths = tuple(len(states[part][key]) for part, key in _FIRST.items())
    try:
        detector = DiffusionAd.from_config({**config, "base": widths[0], "segmentation_width": widths[1]})
    except UsageError as err:
        raise WeightsError(
            f"{checkpoint} holds networks of {widths[0]} and {widths[1]} channels: {err}"
        ) from err
    for part, network in ((UNET, detector.unet), (SEGMENTATION, detector.segmentation)):
        _fill(checkpoint, network, states[part], part)
    detector.draw_noise(generator(_SEED, "noise"))
    detector.eval()
    settings = _settings(found)
    _tell_size(settings, detector, progress)
    notes = {"epochs": found.get("n_epoch"), "settings": settings, "noise_seed": _SEED}
    return Imported(detector, preset="diffusionad_full" if widths == _FULL_WIDTHS else None, notes=notes)


def _state(checkpoint: Path, found: object, part: str) -> Mapping[str, Tensor]:
    """The state dict of one network.

    Raises:
        WeightsError: there is none.
    """
    if not isinstance(found, Mapping):
        raise WeightsError(f"{checkpoint} holds a {type(found).__name__}, not a checkpoint of DiffusionAD")
    keys = ", ".join([*map(str, found)][:3]) or "nothing"
    if not any(name in found for name in _WHAT):
        raise WeightsError(f"{checkpoint} holds {keys}, not {UNET} and {SEGMENTATION} as DiffusionAD's does")
    state = found.get(part)
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(
            f"{checkpoint} lacks the {_WHAT[part]} ({part}), and one network alone finds nothing; give the "
            "file that the authors' train.py saved"
        )
    first = state.get(_FIRST[part])
    if not isinstance(first, Tensor) or first.ndim != 4:
        raise WeightsError(
            f"{checkpoint}: {part} has no {_FIRST[part]}; it is of another network or another version of the "
            "authors' code"
        )
    return state


def _fill(checkpoint: Path, network: nn.Module, state: Mapping[str, Tensor], part: str) -> None:
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith(_COUNTER)]
    strangers = [key for key in state if key not in own]
    if missing or strangers:
        wrong = f"lacks {missing[0]}" if missing else f"has {strangers[0]}"
        raise WeightsError(
            f"{checkpoint}: the {_WHAT[part]} {wrong}; it has other sizes than the preset (multipliers, "
            "blocks, attention)"
        )
    for key, value in own.items():
        given = state.get(key, value)
        if not isinstance(given, Tensor) or given.shape != value.shape:
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise WeightsError(
                f"{checkpoint}: {key} of the {_WHAT[part]} is {shape}, needed is {tuple(value.shape)}; it "
                "has other sizes than the preset (multipliers)"
            )
        if given.is_floating_point() and not bool(torch.isfinite(given).all()):
            raise WeightsError(
                f"{checkpoint}: {key} of the {_WHAT[part]} holds values that are not finite; the file is of "
                "no use"
            )
    network.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``args`` is a JSON value."""
    given = found.get("args")
    if not isinstance(given, Mapping):
        return {}
    return {str(key): value for key, value in given.items() if _plain(value)}


def _plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _tell_size(settings: Mapping[str, Any], detector: DiffusionAd, progress: Progress) -> None:
    size = settings.get("img_size")
    if isinstance(size, list | tuple) and tuple(size) != detector.geometry.input_size:
        height, width = detector.geometry.input_size
        progress.say(f"trained on {'×'.join(map(str, size))} pixels, imported for {height}×{width}")
