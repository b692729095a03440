"""anomalib's Stfpm: teacher and student, two timm networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.checkpoints._anomalib_file import AnomalibFile
from edgead.checkpoints._base import Imported
from edgead.detectors.stfpm import Stfpm
from edgead.errors import WeightsError

_TEACHER, _STUDENT = "model.teacher_model.feature_extractor.", "model.student_model.feature_extractor."


def read(file: AnomalibFile, geometry: Mapping[str, Any]) -> Imported:
    """The detector in `file`.

    Raises:
        UsageError: it was trained on images of another size.
        WeightsError: a network is missing, damaged or none that edgead has.
    """
    for prefix in (_TEACHER, _STUDENT):
        if not file.part(prefix):
            raise WeightsError(f"{file.path} is no checkpoint of Stfpm: it has nothing under {prefix}")
    backbone = file.backbone_name(_TEACHER)
    detector = Stfpm.from_config(
        {
            "backbone": backbone,
            "taps": file.layers(),
            "geometry": geometry,
            "map_order": "upsample_then_product",
            "factor": 0.5,
        }
    )
    file.check_size(detector)
    file.fill_backbone(detector.teacher, backbone, _TEACHER)
    file.fill_backbone(detector.student, backbone, _STUDENT)
    return Imported(detector.eval(), preset="stfpm_resnet18" if backbone == "resnet18" else "stfpm")
