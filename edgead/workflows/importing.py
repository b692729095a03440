"""Import: a foreign checkpoint to a MODEL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.bundle.hashes import sha256_file
from edgead.bundle.manifest import created_by, utc_now
from edgead.data.folder import good_images, hash_items
from edgead.errors import InputError, UsageError
from edgead.progress import Progress, Silent
from edgead.types import Geometry
from edgead.workflows._images import load_pixels

if TYPE_CHECKING:
    from edgead.checkpoints._base import Calibration
    from edgead.detectors.model_file import ModelInfo


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What `import_checkpoint` made: the MODEL's place and what it says of itself."""

    output: Path
    info: ModelInfo


def import_checkpoint(
    source: str,
    checkpoint: Path,
    output: Path,
    *,
    preset: str | None = None,
    weights: Path | None = None,
    calib: Path | None = None,
    resize: int | None = None,
    input_size: int | None = None,
    tap_dim: int | None = None,
    roi: tuple[int, int, int, int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Make a MODEL of a checkpoint that another program wrote.

    Nobody knows which images such a detector was trained on, so the MODEL names none: give good images to
    `export` that it has surely not seen.

    Args:
        source: which program wrote it (a file of `edgead.checkpoints`).
        checkpoint: its file, or its folder where a checkpoint is several files.
        output: the MODEL to write.
        preset: gives the backbone, taps and pixels that the checkpoint does not name; None = the source's.
        weights: a file with the backbone's weights, where the checkpoint has none.
        calib: good images, or a JSON file, for statistics that the checkpoint lacks.
        resize: shorter side in pixels before the centre window is cut; None = the preset's.
        input_size: side in pixels of the centre window that the network sees, or of the whole squeezed frame,
            as the source does it; None = the preset's.
        tap_dim: values per position and tap (the authors' pretrain_embed_dimension); None = the preset's.
        roi: (x, y, w, h) in frame pixels that the detector looks at; None = the whole frame.
        overwrite: replace a MODEL at `output`.
        progress: messages.

    Raises:
        UsageError: an unknown source or preset, or sizes that do not go together.
        OutputError: `output` exists or cannot be written.
        WeightsError: the checkpoint or the backbone's weights cannot be read or do not fit; nothing pickled
            is executed.
        DatasetError: `calib` holds no images that can be read.
        InputError: `calib` is a damaged JSON file.
    """
    from edgead.checkpoints import _base
    from edgead.detectors import _registry, model_file

    show = progress if progress is not None else Silent()

    importer = _base.importer(source)
    name = preset if preset is not None else importer.DEFAULT_PRESET
    entry = _registry.preset(name)
    model_file.check_free(output, overwrite=overwrite)
    config: dict[str, Any] = {**entry["config"], "geometry": {**entry["config"]["geometry"], "roi": roi}}
    if tap_dim is not None:
        config["tap_dim"] = tap_dim
    if importer.WHOLE_FRAME:
        _squeeze(config["geometry"], resize, input_size)
    else:
        _resize(config["geometry"], resize, input_size)
    given, hashes = _calibration(calib, config["geometry"], show)
    made = importer.read(checkpoint, config, weights=weights, calib=given, progress=show)
    detector, fetched = made.detector, made.backbone_weights
    info = model_file.ModelInfo(
        detector=detector.name,
        preset=name if preset is not None or made.preset is None else made.preset,
        config=detector.config_dict(),
        created=utc_now(),
        created_by=created_by(),
        provenance={
            "kind": "imported",
            "source": source,
            "checkpoint": _identity(checkpoint),
            "backbone_weights": None if fetched is None else {"file": fetched.file, "sha256": fetched.sha256},
            "train_hashes": None,
            "reserved_hashes": None,
            "calibration_hashes": hashes,
            **made.notes,
        },
    )
    return ImportResult(output, model_file.save(output, detector, info, overwrite=overwrite))


def _resize(geometry: dict[str, Any], resize: int | None, input_size: int | None) -> None:
    """Put the sizes that were given into the values of a `Geometry`."""
    if resize is None and input_size is None:
        return
    if any(size is not None and size < 1 for size in (resize, input_size)):
        raise UsageError(f"resize {resize} and input size {input_size}: give positive numbers of pixels")
    side = resize if resize is not None else input_size
    if resize is None and geometry.get("window") is not None:
        side = geometry["height"]
    window = input_size if input_size is not None else (geometry.get("window") or [side])[0]
    geometry.update(height=side, width=side, mode="shorter_side", window=[window, window])


def _squeeze(geometry: dict[str, Any], resize: int | None, input_size: int | None) -> None:
    """The same for a source that squeezes the whole frame to a square."""
    if resize is not None:
        raise UsageError(f"resize {resize}: this source squeezes the whole frame; give --input-size alone")
    if input_size is not None:
        geometry.update(height=input_size, width=input_size)


def _identity(checkpoint: Path) -> dict[str, Any]:
    """Name and hash of the file, or of each file of a folder."""
    if checkpoint.is_dir():
        files = sorted(path for path in checkpoint.iterdir() if path.is_file())
        return {"folder": checkpoint.name, "files": {path.name: sha256_file(path) for path in files}}
    return {"file": checkpoint.name, "sha256": sha256_file(checkpoint)}


def _calibration(
    calib: Path | None, geometry: dict[str, Any], progress: Progress
) -> tuple[Calibration | None, list[str]]:
    """What `calib` holds, and the content hashes of its images."""
    from edgead.checkpoints._base import Calibration

    if calib is None:
        return None, []
    if calib.suffix.lower() == ".json":
        try:
            values = json.loads(calib.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise InputError(f"{calib} cannot be read as JSON: {err}") from err
        if not isinstance(values, dict):
            raise InputError(f"{calib} holds no JSON object")
        return Calibration(calib, values=values), []
    images = load_pixels(good_images(calib), Geometry(**geometry), progress=progress, name="good images")
    return Calibration(calib, pixels=images.pixels), list(hash_items(images.items))
