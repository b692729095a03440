"""Checkpoints of the authors' SimpleNet code (``ckpt.pth``), in both layouts that it has written.

Layout 1: a dict with the state dicts ``discriminator`` and, unless the projection was switched off,
``pre_projection``. Layout 2: the state dict of the whole module, the same names behind the prefixes
``discriminator.`` and ``pre_projection.``, the backbone's behind ``backbone.``. Neither says which backbone,
taps or input size it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgead.backbones import _restricted_pickle
from edgead.backbones._weights import fill, load_weights
from edgead.checkpoints._base import Calibration, Imported
from edgead.detectors.simplenet import SimpleNet
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress

DEFAULT_PRESET = "simplenet_wrn50"
WHOLE_FRAME = False

_HIDDEN, _NORM, _TAIL = "body.block1.0.", "body.block1.1.", "tail."
_PROJECTION = "layers.0fc."


def read(
    checkpoint: Path,
    config: Mapping[str, Any],
    *,
    weights: Path | None,
    calib: Calibration | None = None,
    progress: Progress,
) -> Imported:
    """The detector in `checkpoint`; backbone weights come from it where it has them.

    Args:
        checkpoint: the authors' ckpt.pth.
        config: a preset's config; embedding_dim, hidden_dim and projection are read from the checkpoint.
        weights: a backbone file that the user names.
        calib: must be None: such a checkpoint lacks nothing that good images could tell.
        progress: is told of a download.

    Raises:
        UsageError: `calib` is given.
        WeightsError: not such a checkpoint, layers of another shape, or a backbone that does not fit.
    """
    if calib is not None:
        raise UsageError(f"--calib {calib.path}: a SimpleNet checkpoint needs none; leave it out")
    parts = _parts(checkpoint)
    discriminator, projection = parts["discriminator"], parts["pre_projection"]
    _check(checkpoint, discriminator, projection)
    hidden_dim, embedding_dim = discriminator[_HIDDEN + "weight"].shape
    detector = SimpleNet.from_config(
        {
            **config,
            "embedding_dim": embedding_dim,
            "hidden_dim": hidden_dim,
            "projection": bool(projection),
        }
    )
    state = {f"discriminator.hidden.{key}": discriminator[_HIDDEN + key] for key in ("weight", "bias")}
    state |= {
        f"discriminator.norm.{key}": discriminator[_NORM + key]
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    state["discriminator.tail.weight"] = discriminator[_TAIL + "weight"]
    state |= {f"projection.{key.removeprefix(_PROJECTION)}": value for key, value in projection.items()}
    own = detector.state_dict()
    for key, value in state.items():
        if key not in own or own[key].shape != value.shape:
            raise WeightsError(
                f"{checkpoint}: {key} is {tuple(value.shape)}, which fits no SimpleNet of these sizes"
            )
    detector.load_state_dict(own | state)
    name = detector.config.backbone
    if parts["backbone"] and weights is None:
        fill(detector.backbone, name, parts["backbone"], checkpoint)
        return Imported(detector.eval())
    return Imported(detector.eval(), load_weights(detector.backbone, name, weights, progress=progress))


def _parts(checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """The state dicts ``discriminator``, ``pre_projection`` and ``backbone``, empty where there is none."""
    found = _restricted_pickle.load(checkpoint)
    names = ("discriminator", "pre_projection", "backbone")
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    if isinstance(found, Mapping):
        for key, value in found.items():
            if key in names and isinstance(value, Mapping):
                parts[key] = {name: item for name, item in value.items() if isinstance(item, Tensor)}
            elif isinstance(value, Tensor) and str(key).split(".")[0] in names:
                part, name = str(key).split(".", 1)
                parts[part][name] = value
    if not parts["discriminator"]:
        raise WeightsError(
            f"{checkpoint} holds no discriminator, neither as a dict of its own nor by prefix: it is no "
            "checkpoint of the authors' SimpleNet code"
        )
    return parts


def _check(checkpoint: Path, discriminator: Mapping[str, Tensor], projection: Mapping[str, Tensor]) -> None:
    wanted = {_HIDDEN + "weight", _HIDDEN + "bias", _TAIL + "weight"}
    wanted |= {_NORM + key for key in ("weight", "bias", "running_mean", "running_var")}
    missing = sorted(wanted - discriminator.keys())
    if missing:
        raise WeightsError(f"{checkpoint}: the discriminator lacks {', '.join(missing)}")
    deeper = [key for key in discriminator if key not in wanted and not key.endswith("num_batches_tracked")]
    deeper += [key for key in projection if not key.startswith(_PROJECTION)]
    if deeper:
        raise WeightsError(
            f"{checkpoint}: {deeper[0]} belongs to a deeper SimpleNet; edgead reads a projection of one "
            "layer and a discriminator of two (pre_proj 0 or 1, dsc_layers 2)"
        )
    if discriminator[_HIDDEN + "weight"].ndim != 2:
        raise WeightsError(f"{checkpoint}: {_HIDDEN}weight is no matrix")
