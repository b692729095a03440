"""MODEL: a trained or imported detector as a folder of ``model.safetensors`` and ``model.json``.

The weights file holds every tensor of the network, the truncated backbone included, so a MODEL needs nothing
else. ``model.json`` (schema 1): created_by, created, detector, preset, config, weights_sha256, provenance. A
MODEL appears at its place at once, when it is finished.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.bundle._storage import output_error, sync
from edgead.bundle.hashes import is_content_hash, sha256_file
from edgead.errors import ModelError, OutputError, UsageError

if TYPE_CHECKING:
    from edgead.detectors._base import Detector

SCHEMA = 1
CONFIG_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
_CONFIG_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a MODEL says of itself.

    Attributes:
        detector: file stem in `edgead.detectors`.
        preset: name of the preset that it began from.
        config: the detector's own, for `Detector.from_config`.
        provenance: ``kind`` is ``trained`` or ``imported``; further keys by kind (`edgead.workflows`).
        created: UTC, ``2026-11-23T14:35:56Z``.
        created_by: the edgead that wrote it.
        weights_sha256: content hash of the weights file; empty before saving.
    """

    detector: str
    preset: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    created: str
    created_by: str
    weights_sha256: str = ""

    @property
    def train_hashes(self) -> tuple[str, ...] | None:
        """Content hashes of the images that were trained on; None where nobody knows (imported)."""
        return self._hashes("train_hashes")

    @property
    def reserved_hashes(self) -> tuple[str, ...] | None:
        """Content hashes of the good images that `train` held out; None where nobody knows."""
        return self._hashes("reserved_hashes")

    def _hashes(self, key: str) -> tuple[str, ...] | None:
        value = self.provenance.get(key)
        return None if value is None else tuple(value)


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Make sure that a MODEL can be put at `path`, before hours are spent on it.

    Raises:
        OutputError: something stands there (with `overwrite`: something that is not a MODEL), or its folder
            is missing or cannot be written.
    """
    if path.exists() or path.is_symlink():
        if not overwrite:
            raise OutputError(f"{path} exists; choose another name or ask to overwrite it")
        if path.is_symlink() or not (path / CONFIG_FILE).is_file():
            raise OutputError(
                f"{path} exists and is not a MODEL, so it is not overwritten; choose another name"
            )
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")
    try:
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent).cleanup()
    except OSError as err:
        raise output_error(path, err) from err


def save(path: Path, detector: Detector, info: ModelInfo, *, overwrite: bool = False) -> ModelInfo:
    """Write the MODEL beside its place, then move it there at once.

    Returns:
        `info` as saved, with the hash of the weights.

    Raises:
        OutputError: something stands at `path`, or it cannot be written; nothing is left behind.
    """
    from safetensors.torch import save as to_bytes

    check_free(path, overwrite=overwrite)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as work:
            made = Path(work) / "model"
            made.mkdir()
            weights = made / WEIGHTS_FILE
            weights.write_bytes(
                to_bytes({key: value.contiguous() for key, value in detector.state_dict().items()})
            )
            values = asdict(info) | {"weights_sha256": sha256_file(weights)}
            config = made / CONFIG_FILE
            config.write_text(json.dumps({"schema": SCHEMA, **values}, indent=2, allow_nan=False) + "\n")
            for part in (weights, config, made):
                sync(part)
            if path.exists():
                path.rename(Path(work) / "old")
            made.rename(path)
        sync(path.parent)
    except OSError as err:
        raise output_error(path, err) from err
    return ModelInfo(**values)


def read_info(path: Path) -> ModelInfo:
    """Read ``model.json`` only; needs no torch.

    Raises:
        ModelError: there is no MODEL, it is unfinished, damaged, or of another schema.
    """
    config = path / CONFIG_FILE
    if not config.is_file():
        raise ModelError(_missing(path))
    try:
        if config.stat().st_size > _CONFIG_LIMIT:
            raise ModelError(f"{config} is larger than {_CONFIG_LIMIT} bytes: this is no MODEL of edgead")
        values = json.loads(config.read_text())
        schema = values.pop("schema")
        if schema != SCHEMA:
            raise ModelError(
                f"{path} has schema {schema!r}, this edgead reads {SCHEMA}; use the edgead that wrote it "
                f"({values.get('created_by', 'unknown')}) or train again"
            )
        info = ModelInfo(**values)
        texts = (info.detector, info.preset, info.created, info.created_by)
        sound = all(isinstance(text, str) for text in texts) and is_content_hash(info.weights_sha256)
        if not sound or not isinstance(info.config, dict) or not isinstance(info.provenance, dict):
            raise TypeError("a value has another type")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as err:
        raise ModelError(f"{config} is damaged ({err}); train again or restore the file") from err
    return info


def load(path: Path) -> tuple[Detector, ModelInfo]:
    """Read a MODEL: the network in evaluation mode, and what the MODEL says of itself.

    Raises:
        ModelError: there is no MODEL, it is unfinished, damaged, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from edgead.detectors._registry import detector_class

    info = read_info(path)
    weights = path / WEIGHTS_FILE
    try:
        found = sha256_file(weights)
        if found != info.weights_sha256:
            raise ModelError(
                f"{weights} is damaged: its hash is {found}, {CONFIG_FILE} says {info.weights_sha256}; "
                "copy the MODEL again or train again"
            )
        detector = detector_class(info.detector).from_config(info.config)
        detector.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as err:
        raise ModelError(f"{weights} does not hold this detector's weights: {err}; train again") from err
    except UsageError as err:
        raise ModelError(f"{path} needs another edgead than this: {err}") from err
    return detector.eval(), info


def partial_path(path: Path) -> Path:
    """Where training toward `path` keeps its resume state."""
    return path.with_name(path.name + ".partial")


def remove(path: Path) -> None:
    """Delete a folder of resume state, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def _missing(path: Path) -> str:
    if path.name.endswith(".partial"):
        return f"{path} is an unfinished training; run the same `edgead train` command again to finish it"
    if partial_path(path).is_dir():
        return (
            f"{path} is not finished, {partial_path(path).name} beside it holds its state; run the same "
            "`edgead train` command again to finish it"
        )
    state = "is not a MODEL: it has no model.json" if path.exists() else "does not exist"
    return f"{path} {state}; give the folder that `edgead train` or `edgead import` wrote"
