"""The teacher of an EfficientAD: from a file that the user names, or the published one, downloaded once."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from edgead.backbones._base import WeightsSource
from edgead.backbones._weights import LoadedWeights, fetch
from edgead.bundle.hashes import sha256_file
from edgead.detectors._efficientad_weights import fill, read_network
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import WeightsError
from edgead.progress import Progress

# Small and medium, pre-trained by nelson1425 and published by anomalib.
PUBLISHED = WeightsSource(
    file="efficientad_pretrained_weights.zip",
    sha256="c09aeaa2b33f244b3261a5efdaeae8f8284a949470a4c5a526c61275fe62684a",
    url="https://github.com/open-edge-platform/anomalib/releases/download/efficientad_pretrained_weights/"
    "efficientad_pretrained_weights.zip",
)
_MEMBER = "pretrained_teacher_{size}.pth"
_MEMBER_LIMIT_BYTES = 1 << 30


def load_teacher(
    detector: EfficientAd, file: Path | None = None, *, progress: Progress | None = None
) -> LoadedWeights:
    """Fill the detector's teacher.

    Args:
        detector: its teacher is changed.
        file: safetensors of `edgead distill-teacher`, a torch file of nelson1425 or anomalib, or the
            published zip; None = the published one, from the user's cache or downloaded.
        progress: is told of a download.

    Raises:
        WeightsError: the file cannot be read or had, or holds another network, which the message names.
    """
    size = detector.config.size
    if file is None:
        if size == "edge":
            raise WeightsError(
                "no teacher of the edge size is published; make one with `edgead distill-teacher edge` and "
                "name it with --weights"
            )
        try:
            file = fetch(PUBLISHED, progress=progress)
        except WeightsError as err:
            raise WeightsError(
                f"{err}; or make a teacher with `edgead distill-teacher {size}` and name it with --weights"
            ) from err
    what = f"{'an' if size == 'edge' else 'a'} {size} teacher"
    if file.suffix.lower() == ".zip":
        with tempfile.TemporaryDirectory(prefix="edgead-teacher-") as folder:
            member = _extract(file, _MEMBER.format(size=size), Path(folder))
            fill(detector.teacher, what, read_network(member), file)
    else:
        fill(detector.teacher, what, read_network(file), file)
    return LoadedWeights(file.name, sha256_file(file))


def _extract(archive: Path, name: str, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(archive) as content:
            members = [info for info in content.infolist() if Path(info.filename).name == name]
            if not members:
                raise WeightsError(f"{archive} holds no {name}: {', '.join(content.namelist()[:4])}")
            if members[0].file_size > _MEMBER_LIMIT_BYTES:
                raise WeightsError(f"{archive}: {name} is larger than {_MEMBER_LIMIT_BYTES} bytes")
            target = folder / name
            target.write_bytes(content.read(members[0]))
    except zipfile.BadZipFile as err:
        raise WeightsError(f"{archive} is not a zip file, or damaged: {err}") from err
    except OSError as err:
        raise WeightsError(f"{archive} cannot be read: {err.strerror or err}") from err
    return target
