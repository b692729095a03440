"""PaDiM's distance in every exact form, as ONNX graphs interleaved in the same engine.

    python benchmarks/suites/padim_forms.py [--json] [--preset padim_resnet18] [--side 256] [--rounds 15]

Features of the backbone's taps to the map, without the backbone, on random Gaussians, which cost the same as
fitted ones. Sides: ``quadratic``: (x − μ)ᵀ Σ⁻¹ (x − μ) per position, as the detector and anomalib compute it;
``whole``: one product with U, Σ⁻¹ = UᵀU; ``transposed``: the same, matrix first; ``grouped``: the same as a
grouped 1 × 1 convolution; ``triangle2``, ``triangle4``: U in so many blocks of rows, without most of the
zeros below its diagonal; ``cells``: what ships (`exporters/lowering/padim.py`).
All sides run in turn in each round, once untimed and once timed; figures are medians, and MiB of weights
that a map reads. Bars: fp32 within 1e-4 of the map's range of torch in float64; ``cells`` is ≥ 1.5 × as fast
as ``quadratic`` in OpenVINO fp32. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lowered_head import ENGINES, engine_run, median_ms  # the script beside this one
from torch import Tensor, nn

from edgead.benchmarks.environment import record
from edgead.detectors._presets import PRESETS
from edgead.detectors.padim import Padim
from edgead.exporters.lowering.padim import lower, whitening
from edgead.exporters.onnx_exporter import _save, trace

ERROR_BAR = 1e-4
FASTER_BAR = 1.5
SEED = 20261125
FAMILY = [name for name, preset in PRESETS.items() if preset["detector"] == "padim"]


class _Form(nn.Module):
    """A form that sees each position's features as a row."""

    def __init__(self, detector: Padim) -> None:
        super().__init__()
        self.grid, self.index = detector.grid, detector.index
        self.mean = detector.mean[:, None]
        self.upper = whitening(detector.inv_covariance.double()).float()
        self.prepare(detector)

    def prepare(self, detector: Padim) -> None:
        """Keep the matrices that the form reads; `upper` itself is none of them."""

    def centred(self, taps: tuple[Tensor, ...]) -> Tensor:
        """(h·w, 1, dim)."""
        large = [F.interpolate(tap, size=self.grid, mode="nearest") for tap in taps]
        rows = torch.cat(large, 1).index_select(1, self.index).flatten(2).permute(2, 0, 1)
        return rows - self.mean

    def squares(self, x: Tensor) -> Tensor:
        """(h·w, 1, dim) to squared distances, (h·w,)."""
        raise NotImplementedError

    def forward(self, *taps: Tensor) -> Tensor:
        """(1, C_i, h_i, w_i) per tap to (1, 1, h, w)."""
        return self.squares(self.centred(taps)).clamp_min(0).sqrt().view(1, 1, *self.grid)


class _Quadratic(_Form):
    def prepare(self, detector: Padim) -> None:
        self.inverse = detector.inv_covariance

    def squares(self, x: Tensor) -> Tensor:
        return ((x @ self.inverse) * x).sum((1, 2))


class _Whole(_Form):
    def prepare(self, detector: Padim) -> None:
        self.matrix = self.upper.transpose(1, 2).contiguous()

    def squares(self, x: Tensor) -> Tensor:
        return (x @ self.matrix).square().sum((1, 2))


class _Transposed(_Form):
    def squares(self, x: Tensor) -> Tensor:
        return (self.upper @ x.transpose(1, 2)).square().sum((1, 2))


class _Grouped(_Form):
    def prepare(self, detector: Padim) -> None:
        positions, dim, _ = self.upper.shape
        self.kernel = self.upper.reshape(positions * dim, dim, 1, 1)

    def squares(self, x: Tensor) -> Tensor:
        positions = len(x)
        y = F.conv2d(x.reshape(1, -1, 1, 1), self.kernel, groups=positions)
        return y.view(positions, -1).square().sum(1)


class _Triangle(_Form):
    def __init__(self, detector: Padim, blocks: int) -> None:
        self.count = blocks
        super().__init__(detector)

    def prepare(self, detector: Padim) -> None:
        edges = torch.linspace(0, self.upper.shape[1], self.count + 1).round().long().tolist()
        self.starts = edges[:-1]
        self.blocks = [
            self.upper[:, low:high, low:].transpose(1, 2).contiguous()
            for low, high in itertools.pairwise(edges)
        ]

    def squares(self, x: Tensor) -> Tensor:
        pairs = zip(self.starts, self.blocks, strict=True)
        parts = [(x[:, :, start:] @ block).square().sum((1, 2)) for start, block in pairs]
        return torch.stack(parts).sum(0)


class _Cells(nn.Module):
    """The lowered head, given all channels where a lowered ResNet makes those it keeps alone."""

    def __init__(self, detector: Padim) -> None:
        super().__init__()
        self.lowered = lower(detector)
        first = detector.features - detector.backbone.spec.taps[detector.config.taps[-1]].channels
        self.kept = detector.index[detector.index >= first] - first

    def forward(self, *taps: Tensor) -> Tensor:
        """(1, C_i, h_i, w_i) per tap to (1, 1, h, w)."""
        if self.lowered.products[-1].channels is None:
            taps = (*taps[:-1], taps[-1].index_select(1, self.kept))
        return self.lowered.head(taps)


def random_detector(preset: str, side: int, image: Tensor) -> Padim:
    """Random Gaussians, their means as constant in a cell as fitted ones are."""
    torch.manual_seed(SEED)
    config = PRESETS[preset]["config"] | {"geometry": {"height": side, "width": side}}
    detector = Padim.from_config(config).eval()
    detector.index.copy_(torch.randperm(detector.features)[: detector.config.dim].sort().values)
    detector.mean.copy_(detector.embed(image)[0] * 0.9)
    root = torch.randn_like(detector.inv_covariance)
    identity = torch.eye(detector.config.dim)
    detector.inv_covariance.copy_(root @ root.transpose(1, 2) / detector.config.dim + identity)
    return detector


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians, errors and weights of every form in every engine."""
    image = torch.randint(0, 256, (1, options.side, options.side, 3), dtype=torch.uint8)
    detector = random_detector(options.preset, options.side, image)
    with torch.inference_mode():
        taps = tuple(tap.clone() for tap in detector.backbone(detector.backbone.normalise(image)))
    inputs = {f"tap{index}": tap for index, tap in enumerate(taps)}
    sides: dict[str, nn.Module] = {
        "quadratic": _Quadratic(detector),
        "whole": _Whole(detector),
        "transposed": _Transposed(detector),
        "grouped": _Grouped(detector),
        "triangle2": _Triangle(detector, 2),
        "triangle4": _Triangle(detector, 4),
        "cells": _Cells(detector),
    }
    with torch.inference_mode():
        delta = _Form(detector).centred(taps)[:, 0].double()
        exact = torch.einsum("pd,pde,pe->p", delta, detector.inv_covariance.double(), delta).sqrt()
        expected = exact.view(1, 1, *detector.grid).numpy()
    result: dict[str, Any] = {"mib": {}, "engines": {}}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in sides}
        for name, module in sides.items():
            model = trace(module.eval(), inputs, ["anomaly_map"], {})
            result["mib"][name] = model.ByteSize() / 2**20
            _save(model, paths[name])
        for engine in ENGINES:
            runs = {name: engine_run(engine, path, inputs, options.threads) for name, path in paths.items()}
            errors = {
                name: float(np.abs(run() - expected).max() / np.ptp(expected)) for name, run in runs.items()
            }
            times = median_ms(runs, options.rounds, time.perf_counter_ns)
            result["engines"][engine] = {"ms": times, "error": errors}
    return result


def misses(found: dict[str, Any]) -> list[str]:
    """What is over its bar, in words."""
    said = [
        f"{engine}: {side} is {error:.1e} of the range from float64"
        for engine, values in found["engines"].items()
        if engine.endswith("fp32")
        for side, error in values["error"].items()
        if not error <= ERROR_BAR
    ]
    ms = found["engines"]["openvino:fp32"]["ms"]
    if ms["quadratic"] < FASTER_BAR * ms["cells"]:
        said.append(f"cells is {ms['quadratic'] / ms['cells']:.2f} × as fast as quadratic, the bar is 1.5 ×")
    return said


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="PaDiM's distance in every exact form")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--preset", default="padim_resnet18", choices=FAMILY)
    parser.add_argument("--side", type=int, default=256, help="of the square input, in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.rounds < 1 or options.side < 32 or options.threads < 1:
        parser.error("give at least --rounds 1, --threads 1 and --side 32")
    environment = record()
    found = measure(options)
    failures = misses(found)
    if options.json:
        everything = {**found, "passed": not failures, "environment": asdict(environment)}
        print(json.dumps(everything, indent=2))
        return 1 if failures else 0
    for name, value in asdict(environment).items():
        print(f"{name:15} {value}")
    print(
        f"{'engine':18} {'form':12} {'MiB':>7} {'median ms':>10} {'quadratic/this':>15} {'error/range':>12}"
    )
    for engine, values in found["engines"].items():
        for side, ms in values["ms"].items():
            print(
                f"{engine:18} {side:12} {found['mib'][side]:7.1f} {ms:10.2f} "
                f"{values['ms']['quadratic'] / ms:14.2f}× {values['error'][side]:12.1e}"
            )
    print("\n".join(failures) or "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
