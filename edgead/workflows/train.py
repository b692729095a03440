"""Train: good images and a detector's name to a MODEL."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.bundle.manifest import created_by, utc_now
from edgead.calibration.drift import score_quantiles
from edgead.data.folder import good_images, hash_items
from edgead.data.split import reserve
from edgead.discovery import load as load_plugin
from edgead.errors import EngineError, InputError, UsageError
from edgead.progress import Progress, Silent
from edgead.tiling import Tiling, laid_out
from edgead.types import Geometry
from edgead.workflows._images import Skipped, load_pixels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.backbones._weights import LoadedWeights
    from edgead.detectors.model_file import ModelInfo


# Which numbers of a recipe count optimiser steps; cpr has another one for textures.
_STEPS = ("steps", "texture_steps")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What `train` made.

    Attributes:
        output: the MODEL.
        info: what the MODEL says of itself.
        trained: images that were trained on.
        reserved: good images that were held out, for the early stop now and for thresholds later.
        skipped: images that could not be read.
        seconds: wall time of this run.
    """

    output: Path
    info: ModelInfo
    trained: int
    reserved: int
    skipped: tuple[Skipped, ...]
    seconds: float


def train(
    detector: str,
    data: Path,
    output: Path,
    *,
    seed: int = 0,
    reserve_share: float = 0.2,
    weights: Path | None = None,
    penalty: Path | None = None,
    textures: Path | None = None,
    foreground: str | None = None,
    bank_budget: float | None = None,
    bank_type: str | None = None,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    tiles: tuple[int, int] | None = None,
    overlap: int | None = None,
    roi: tuple[int, int, int, int] | None = None,
    bit_depth: int | None = None,
    overwrite: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train `detector` on the good images of `data`.

    A share of them, chosen by content hash, is held out: it decides when to stop, and thresholds and gates
    use it later. While training, ``OUTPUT.partial`` beside `output` keeps the state; the same call resumes
    from it and gives the same weights, bit for bit, as a training that was never interrupted on this machine.

    Args:
        detector: a preset's name (`edgead.detectors._presets`).
        data: a folder in MVTec layout (its train/good is used) or a folder of good images.
        output: the MODEL to write.
        seed: of every random choice: the held-out images, initial weights, batches, noise.
        reserve_share: of the good images to hold out, 0 < share < 1.
        weights: a file with the weights of the part that is not trained (backbone or teacher); None = by
            name, see `edgead.backbones._weights` and `edgead.training._teacher`.
        penalty: a folder of images that are not of the product, for a detector that is to stay silent about
            them; None = drawn ones.
        textures: a folder of textures for synthetic anomalies; None = drawn ones.
        foreground: ``auto``, ``on`` or ``off``: whether an anomaly counts on the object only, for a detector
            that can tell it from the background; None = ``auto``.
        bank_budget: MiB for the references that a detector keeps; None = all of them.
        bank_type: ``fp32``, ``fp16`` or ``int8``: how they are stored; None = as the preset says.
        steps: optimiser steps instead of the preset's (SimpleNet: per meta-epoch).
        size: (H, W) all of the frame (or ROI) is scaled to it; None = the preset's. With `tiles`, of a tile.
        tiles: (rows, columns) of overlapping tiles that the network sees of a larger image, and is trained
            on; None = it sees the whole image at once.
        overlap: pixels that neighbouring tiles share; None = a quarter of a tile's side, or a little more.
        roi: (x, y, w, h) in frame pixels that the detector looks at; None = the whole frame.
        bit_depth: significant bits of 16-bit files.
        overwrite: replace a MODEL at `output`.
        restart: forget an unfinished training toward `output`.
        progress: bars and messages.

    Raises:
        UsageError: an unknown detector or option, or a size or tiles that the detector cannot take.
        OutputError: `output` exists or cannot be written, or an unfinished training differs from this one.
        DatasetError: no good images, or fewer than two different ones that can be read.
        WeightsError: the backbone's or teacher's weights do not fit or cannot be had.
        InputError: training diverged.
    """
    from edgead.detectors import _registry, model_file

    started = time.monotonic()
    progress = progress if progress is not None else Silent()
    preset = _registry.preset(detector)
    model_file.check_free(output, overwrite=overwrite)
    partial = model_file.partial_path(output)
    if restart:
        model_file.remove(partial)

    import torch

    from edgead.training._state import ResumeState
    from edgead.workflows._sides import model_side

    recipe = _recipe(preset["training"], steps, preset.get("short"))
    training = load_plugin("edgead.training", preset["detector"], kind="training recipe")
    options: dict[str, Any] = {
        "penalty": penalty,
        "textures": textures,
        "foreground": foreground,
        "bank_budget": bank_budget,
        "bank_type": bank_type,
    }
    options = {name: value for name, value in options.items() if value is not None}
    _check_options(preset["detector"], training.OPTIONS, options)
    kind = _registry.detector_class(preset["detector"])
    if tiles is not None:
        _check_tiles(preset["detector"], training, options)
    elif overlap is not None:
        raise UsageError(f"--overlap {overlap} is of tiles: say how many, for instance --tiles 2x3")
    config = _config(preset["config"], size or (tiles and _input_size(preset["config"])), roi)
    network: Any = kind.from_config(config)
    if tiles is not None:
        geometry = laid_out(network.geometry, tiles, overlap, network.post_recipe)
        network = kind.from_config({**config, "geometry": asdict(geometry)})
    source = training.load_frozen(network, weights, progress=progress)
    if tiles is not None:
        progress.say(f"{network.geometry.tiles}, of images of {_by(network.geometry.image_size)} pixels")
    images = load_pixels(
        good_images(data), network.geometry, progress=progress, name="images", bit_depth=bit_depth
    )
    hashes = hash_items(images.items)
    trained, reserved = reserve(hashes, share=reserve_share, seed=seed)
    fingerprint = {
        "detector": detector,
        "config": network.config_dict(),
        "recipe": recipe,
        "seed": seed,
        "weights": None if source is None else source.sha256,
        "options": {
            name: str(value.resolve()) if isinstance(value, Path) else value
            for name, value in options.items()
        },
        "images to train on": [hashes[index] for index in trained],
        "reserved images": [hashes[index] for index in reserved],
        "edgead": created_by(),
        "torch": str(torch.__version__),
    }
    record = training.fit(
        network,
        *(_network_inputs(network.tiling, images.pixels[list(part)]) for part in (trained, reserved)),
        recipe=recipe,
        seed=seed,
        state=ResumeState(partial, fingerprint),
        progress=progress,
        **options,
    )
    try:
        scores = model_side(
            network, images.pixels[list(reserved)], progress=progress, name="reserved images"
        ).scores
    except EngineError as error:
        raise InputError(
            f"training diverged, no MODEL was written: {error.args[0].partition(';')[0]}; look for odd "
            "images among the good ones, or train with --restart and another --seed"
        ) from error
    info = model_file.ModelInfo(
        detector=preset["detector"],
        preset=detector,
        config=network.config_dict(),
        created=utc_now(),
        created_by=created_by(),
        provenance={
            "kind": "trained",
            "seed": seed,
            "reserve_share": reserve_share,
            "train_hashes": fingerprint["images to train on"],
            "reserved_hashes": fingerprint["reserved images"],
            "reserved_scores": score_quantiles(scores),
            "skipped": [str(item.path) for item in images.skipped],
            **_origin(training.FROZEN, source),
            "recipe": recipe,
            "versions": {"torch": str(torch.__version__)},
            **record,
        },
    )
    info = model_file.save(output, network, info, overwrite=overwrite)
    model_file.remove(partial)
    return TrainResult(output, info, len(trained), len(reserved), images.skipped, time.monotonic() - started)


def _origin(part: str | None, source: LoadedWeights | None) -> dict[str, Any]:
    """Where the weights of the part that is not trained came from; nothing where all of it is."""
    if source is None:
        return {}
    return {f"{part}_weights": {"file": source.file, "sha256": source.sha256}}


def _config(
    preset: Mapping[str, Any], size: tuple[int, int] | None, roi: tuple[int, int, int, int] | None
) -> dict[str, Any]:
    geometry = Geometry.from_values({**preset["geometry"], "roi": roi})
    return {**preset, "geometry": asdict(geometry if size is None else geometry.resized(size))}


def _input_size(preset: Mapping[str, Any]) -> tuple[int, int]:
    return Geometry.from_values(preset["geometry"]).input_size


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _network_inputs(tiling: Tiling | None, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The images (N, H, W, 3), or all tiles of them: which of them are held out, is decided by image."""
    return pixels if tiling is None else tiling.cut(pixels)


def _check_tiles(detector: str, training: Any, options: Mapping[str, Any]) -> None:
    """A recipe that cannot learn from tiles says why in `no_tiles`."""
    refusal = getattr(training, "no_tiles", None)
    if refusal is not None and (why := refusal(options)):
        raise UsageError(f"{detector} cannot be trained on tiles: {why}")


def _check_options(detector: str, known: Collection[str], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(f"--{option.replace('_', '-')}" for option in sorted(known))
            raise UsageError(
                f"--{name.replace('_', '-')} {value}: {detector} takes "
                f"{takes or 'no such option, it learns from good images alone'}; leave it out"
            )


def _recipe(
    preset: Mapping[str, Any], steps: int | None, short: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The preset's numbers with so many steps; `short` holds others for fewer than its ``below``."""
    if steps is None:
        return preset
    if steps < 1:
        raise UsageError(f"{steps} steps: give at least 1")
    if not any(key in _STEPS for key in preset):
        raise UsageError(
            f"--steps {steps}: this detector is fitted in closed form, without steps; leave it out"
        )
    others = {}
    if short is not None and steps < short["below"]:
        others = {key: value for key, value in short.items() if key != "below"}
    return {**{key: steps if key in _STEPS else value for key, value in preset.items()}, **others}
