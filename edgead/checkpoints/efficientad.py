"""Checkpoints of nelson1425's EfficientAD: three files of whole pickled networks, or of their state dicts.

``teacher_final.pth``, ``student_final.pth`` and ``autoencoder_final.pth`` (while training: ``*_tmp.pth``)
hold nn.Sequential modules. Only names and tensors are read from them, no module is built by the file. What
his code computes but never saves, the teacher's statistics and the map quantiles, comes from good images or a
side-car.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgead.checkpoints._base import Calibration, Imported
from edgead.checkpoints._efficientad_calibration import complete
from edgead.detectors._efficientad_weights import fill, identify, read_network, told
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import UsageError, WeightsError
from edgead.progress import Progress

DEFAULT_PRESET = "efficientad"
WHOLE_FRAME = True

PRESETS_BY_SIZE = {"small": "efficientad", "medium": "efficientad_m", "edge": "efficientad_edge"}
_SIDE = 256
_PARTS = ("teacher", "student", "autoencoder")
_NAME = re.compile(rf"({'|'.join(_PARTS)})_(.+)\.pth")


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
        checkpoint: the folder of the three files, or one of them.
        config: a preset's config; the size is read from the files.
        weights: must be None: the teacher is among the files.
        calib: good images or a side-car for what the files lack.
        progress: bars of the computation on `calib`.

    Raises:
        UsageError: `weights` is given, or another input size than 256 × 256.
        WeightsError: a file is missing, mixed up, of another size, or not such a checkpoint, or there is no
            `calib`.
    """
    if weights is not None:
        raise UsageError(f"--weights {weights}: the teacher is part of the checkpoint; leave it out")
    files = part_files(checkpoint)
    found = {part: read_network(path) for part, path in files.items()}
    size = _size(files, found)
    detector = EfficientAd.from_config({**config, "size": size, "map_order": "quantile_then_upsample"})
    if detector.geometry.input_size != (_SIDE, _SIDE):
        raise UsageError(f"input size {detector.geometry.input_size}: this code's networks see 256×256 only")
    fill(detector.teacher, f"a {size} teacher", found["teacher"], files["teacher"])
    fill(detector.student, f"a {size} student", found["student"], files["student"])
    fill(detector.ae, "an autoencoder", found["autoencoder"], files["autoencoder"])
    detector.eval()
    complete(detector, checkpoint, calib, progress=progress)
    return Imported(detector, preset=PRESETS_BY_SIZE[size])


def part_files(checkpoint: Path) -> dict[str, Path]:
    """The files of teacher, student and autoencoder, given their folder or one of them.

    Raises:
        WeightsError: one is missing, or the name is none of this code's.
    """
    if checkpoint.is_dir():
        folder, kinds = checkpoint, [kind for kind in ("final", "tmp") if _there(checkpoint, kind)]
        if not kinds:
            raise WeightsError(f"{checkpoint} holds no {', '.join(f'{part}_final.pth' for part in _PARTS)}")
        kind = kinds[0]
    else:
        match = _NAME.fullmatch(checkpoint.name)
        if match is None:
            raise WeightsError(
                f"{checkpoint} is none of {', '.join(f'{part}_final.pth' for part in _PARTS)}; give one of "
                "them or their folder; anomalib's .ckpt files are another source (anomalib)"
            )
        folder, kind = checkpoint.parent, match[2]
    files = {part: folder / f"{part}_{kind}.pth" for part in _PARTS}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise WeightsError(f"{folder} lacks {', '.join(missing)}")
    return files


def _there(folder: Path, kind: str) -> bool:
    return any((folder / f"{part}_{kind}.pth").exists() for part in _PARTS)


def _size(files: Mapping[str, Path], found: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The size that teacher and student share.

    Raises:
        WeightsError: a file holds another part than its name says, or the sizes differ.
    """
    sizes = {}
    for part, path in files.items():
        kind = identify(found[part])
        if kind is None or kind[1] != part:
            raise WeightsError(f"{path} holds {told(found[part])}, not the {part} that its name says")
        sizes[part] = kind[0]
    if sizes["teacher"] != sizes["student"]:
        raise WeightsError(
            f"{files['teacher']} holds {told(found['teacher'])}, {files['student'].name} "
            f"{told(found['student'])}: files of two trainings are mixed"
        )
    return sizes["teacher"]
