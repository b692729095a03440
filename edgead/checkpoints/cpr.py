"""Checkpoints of the authors' CPR code: ``00500.pth`` … of a training, or a released ``CATEGORY.pth``.

They hold the retrieval heads and, mostly, the backbone. Vocabulary and foreground lie in ``grb.pth`` and
``feb.pth`` where the user put them beside the checkpoint, else they are fitted again; the references are
never saved by that code, so good images (``--calib``) are always needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgead.backbones._weights import LoadedWeights, fill, load_weights
from edgead.bundle.hashes import sha256_file
from edgead.checkpoints._base import Calibration, Imported
from edgead.checkpoints._cpr_files import (
    BACKBONE,
    FOREGROUND,
    GLOBAL,
    HEADS,
    read_centres,
    read_foreground,
    read_state,
)
from edgead.detectors.cpr import Cpr
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress
from edgead.training._cpr_features import FineFeatures, cluster
from edgead.training._cpr_foreground import set_foreground, tell
from edgead.training._cpr_references import different

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_PRESET = "cpr_densenet"
WHOLE_FRAME = True

# The authors' own, so that fits made here are fits of theirs.
_SEED = 66
_COUNTER = "num_batches_tracked"
# Channels of the two taps to the backbone that has them.
_MADE_FOR: Mapping[tuple[int, ...], str] = {
    (256, 512): "DenseNet-201 (preset cpr_densenet)",
    (64, 128): "ResNet-18 (preset cpr_fast or cpr_faster)",
    (24, 40): "EfficientNet-B0, which edgead does not have",
}


def read(
    checkpoint: Path,
    config: Mapping[str, Any],
    *,
    weights: Path | None,
    calib: Calibration | None = None,
    progress: Progress,
) -> Imported:
    """The detector in `checkpoint`, with `calib` as its references.

    Args:
        checkpoint: the state dict's file; ``grb.pth`` and ``feb.pth`` in the same folder are used.
        config: a preset's config; the length of descriptors and the clusters are read from the files.
        weights: a backbone file that the user names; None = the checkpoint's own, else by name.
        calib: good images.
        progress: bars and messages.

    Raises:
        UsageError: `calib` is a JSON file.
        WeightsError: the files are none of this code's, or do not go together, or there is no `calib`.
        DatasetError: fewer good images than are searched per image.
    """
    if calib is None:
        raise WeightsError(
            f"{checkpoint} does not hold the reference images; give a folder of good images (--calib)"
        )
    if calib.pixels is None:
        raise UsageError(f"--calib {calib.path}: cpr keeps good images as references; give a folder of them")
    state = read_state(checkpoint)
    files = {name: checkpoint.with_name(name) for name in (GLOBAL, FOREGROUND)}
    files = {name: path for name, path in files.items() if path.is_file()}
    detector = _build(checkpoint, config, state, files)
    fetched = _fill_backbone(detector, checkpoint, state, weights, progress)
    detector.eval()
    pixels = different(calib.pixels, progress)
    found = _complete(detector, pixels, files, progress)
    detector.set_references(torch.from_numpy(pixels))
    notes = {"foreground": found, "read": {name: sha256_file(path) for name, path in files.items()}}
    return Imported(detector, fetched, notes=notes)


def _build(
    checkpoint: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], files: Mapping[str, Path]
) -> Cpr:
    """The detector with the checkpoint's heads."""
    heads = {key.removeprefix(HEADS): value for key, value in state.items() if key.startswith(HEADS)}
    last = heads.get("0.4.weight")
    if last is None or last.ndim != 4:
        raise WeightsError(f"{checkpoint} has no {HEADS}0.4.weight, the end of the first retrieval head")
    clusters = {}
    detector = Cpr.from_config({**config, "dim": len(last)})
    if GLOBAL in files:
        clusters = {"clusters": len(read_centres(files[GLOBAL], detector.centres.shape[1]))}
        detector = Cpr.from_config({**config, "dim": len(last), **clusters})
    _check_heads(checkpoint, heads, detector)
    own = detector.heads.state_dict()
    detector.heads.load_state_dict({key: heads.get(key, value) for key, value in own.items()})
    return detector


def _check_heads(checkpoint: Path, heads: Mapping[str, Tensor], detector: Cpr) -> None:
    own = {key: value for key, value in detector.heads.state_dict().items() if not key.endswith(_COUNTER)}
    missing = [key for key in own if key not in heads]
    strangers = [key for key in heads if key not in own and not key.endswith(_COUNTER)]
    if missing or strangers:
        wrong = f"lacks {HEADS}{missing[0]}" if missing else f"has {HEADS}{strangers[0]}"
        raise WeightsError(f"{checkpoint} {wrong}: it is of another version of the authors' code")
    channels = tuple(int(heads[f"{level}.0.weight"].shape[1]) for level in (0, 1))
    wanted = tuple(int(own[f"{level}.0.weight"].shape[1]) for level in (0, 1))
    if channels != wanted or detector.config.backbone == "efficientnet_lite0":
        made_for = _MADE_FOR.get(channels, f"taps of {channels[0]} and {channels[1]} channels")
        raise WeightsError(
            f"{checkpoint} was trained on {made_for}, not on {detector.config.backbone}; choose the preset "
            "with its backbone (--preset)"
        )
    for key, value in own.items():
        if heads[key].shape != value.shape:
            raise WeightsError(
                f"{checkpoint}: {HEADS}{key} is {tuple(heads[key].shape)}, needed is {tuple(value.shape)}"
            )
        if not bool(heads[key].isfinite().all()):
            raise WeightsError(f"{checkpoint}: {HEADS}{key} holds values that are not finite")


def _fill_backbone(
    detector: Cpr,
    checkpoint: Path,
    state: Mapping[str, Tensor],
    weights: Path | None,
    progress: Progress,
) -> LoadedWeights | None:
    """The checkpoint's backbone, or where the weights came from that it lacks."""
    own = {key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)}
    if own and weights is None:
        fill(detector.backbone, detector.config.backbone, own, checkpoint)
        return None
    return load_weights(detector.backbone, detector.config.backbone, weights, progress=progress)


def _complete(
    detector: Cpr, pixels: npt.NDArray[np.uint8], files: Mapping[str, Path], progress: Progress
) -> dict[str, Any]:
    """Vocabulary and foreground, from their files or fitted on good images."""
    channels = detector.centres.shape[1]
    for name, what in ((GLOBAL, "vocabulary"), (FOREGROUND, "foreground")):
        progress.say(f"{what}: {f'read from {name}' if name in files else 'fitted on the good images'}")
    features = FineFeatures(detector, pixels, progress=progress)
    vectors = features.sample(_SEED) if len(files) < 2 else None
    if GLOBAL in files:
        detector.centres.copy_(read_centres(files[GLOBAL], channels))
    else:
        assert vectors is not None
        detector.centres.copy_(torch.from_numpy(cluster(vectors, detector.config.clusters, _SEED)))
    if FOREGROUND in files:
        weight, bias = read_foreground(files[FOREGROUND], channels)
        detector.foreground_weight.copy_(weight)
        detector.foreground_bias.copy_(bias)
        return {"used": True}
    assert vectors is not None
    found = set_foreground(detector, features, vectors, "auto", seed=_SEED)
    tell(found, progress)
    return found
