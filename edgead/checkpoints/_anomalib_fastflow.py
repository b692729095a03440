"""anomalib's Fastflow: a timm backbone, layer norms, and FrEIA's blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgead.checkpoints._anomalib_file import AnomalibFile
from edgead.checkpoints._base import Imported
from edgead.detectors.fastflow import FastFlow
from edgead.errors import UsageError, WeightsError

_BACKBONE, _FLOWS = "model.feature_extractor.", "model.fast_flow_blocks."
# Places of a step's two convolutions: anomalib 2.7 pads inside them, older ones with layers of their own.
_CONVOLUTIONS = (("subnet.0", "subnet.2"), ("subnet.1", "subnet.4"))


def read(file: AnomalibFile, geometry: Mapping[str, Any]) -> Imported:
    """The detector in `file`.

    Raises:
        UsageError: it was trained on images of another size: its norms have a weight for each value.
        WeightsError: a part is missing, damaged or none that edgead has.
    """
    backbone = file.backbone_name(_BACKBONE)
    flows = file.part(_FLOWS)
    steps = len({key.split(".")[2] for key in flows if key.startswith("0.module_list.")})
    places = next(
        (pair for pair in _CONVOLUTIONS if f"0.module_list.0.{pair[0]}.weight" in flows), _CONVOLUTIONS[0]
    )
    first, second = (flows.get(f"0.module_list.{step}.{places[0]}.weight") for step in (0, 1))
    if first is None or first.ndim != 4:
        raise WeightsError(f"{file.path} is no checkpoint of Fastflow: {_FLOWS} lacks its first convolution")
    detector = FastFlow.from_config(
        {
            "backbone": backbone,
            "taps": ["layer1", "layer2", "layer3"],
            "geometry": geometry,
            "flow_steps": steps,
            "only_3x3": second is not None and second.shape[-1] == 3,
            "hidden_ratio": first.shape[0] / first.shape[1],
        }
    )
    file.check_size(detector)
    _check_norms(file, detector)
    file.fill_backbone(detector.backbone, backbone, _BACKBONE)
    # Inside a step: name there to name here. w_perm_inv is the inverse of w_perm.
    names = {"global_scale": "global_scale", "global_offset": "global_offset"}
    for place, ours in zip(places, _CONVOLUTIONS[0], strict=True):
        names |= {f"{place}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    own = detector.state_dict()
    given = {key: value for key, value in own.items() if key.startswith("backbone.")}
    given |= {f"norms.{key}": value for key, value in file.part("model.norms.").items()}
    for scale in range(len(detector.flows)):
        for step in range(steps):
            there, here = f"{scale}.module_list.{step}.", f"flows.{scale}.steps.{step}."
            given |= {here + new: flows[there + old] for old, new in names.items() if there + old in flows}
            given[here + "order"] = _order(file, flows.get(there + "w_perm"), there)
    odd = sorted(own.keys() ^ given.keys()) or sorted(k for k in own if own[k].shape != given[k].shape)
    if odd:
        raise WeightsError(f"{file.path}: {odd[0]} is missing, too much or of another shape")
    detector.load_state_dict(given)
    return Imported(
        detector.eval(), preset="fastflow_resnet18" if backbone == "resnet18" else "fastflow_wrn50"
    )


def _check_norms(file: AnomalibFile, detector: FastFlow) -> None:
    weight = file.state.get("model.norms.0.weight")
    if weight is not None and weight.ndim == 3 and tuple(weight.shape[1:]) != detector.grids[0]:
        rows, cols = (4 * size for size in weight.shape[1:])
        raise UsageError(
            f"{file.path} was trained on images of {rows}×{cols}, not "
            f"{'×'.join(map(str, detector.geometry.input_size))}; give that side with --input-size"
        )


def _order(file: AnomalibFile, matrix: Tensor | None, name: str) -> Tensor:
    """Which input channel each output of the one-hot (C, C, 1, 1) matrix is."""
    if matrix is not None and matrix.ndim == 4 and matrix.shape[0] == matrix.shape[1]:
        order = matrix.flatten(1).argmax(1)
        if torch.equal(matrix.flatten(1), torch.eye(len(order), dtype=matrix.dtype)[order]) and len(
            set(order.tolist())
        ) == len(order):
            return order
    raise WeightsError(
        f"{file.path}: {_FLOWS}{name}w_perm is missing or no permutation of channels; edgead reads hard ones "
        "(permute_soft False, anomalib's own)"
    )
