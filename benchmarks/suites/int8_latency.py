"""What int8 gives in time, for presets whose weights need not be here: fp32, bf16 and int8 engines in turn.

    python benchmarks/suites/int8_latency.py IMAGES [PRESET …] [--rounds 60] [--threads 2] [--json]

IMAGES: a folder of good images, 16 of which are used. Each preset is built untrained (a backbone has its
weights where they are here; banks are as large as after a training on 200 images), exported without returning
layers to float, and run in OpenVINO, the network alone, one image per engine in turn. What int8 costs in
accuracy, only a trained MODEL tells (int8.py), and layers that it returns to float take time back. `plain`,
beside them, is fp32 with OpenVINO's own convolutions, as `edgead export --convolutions plain` makes it.
Without PRESET: those with a bar, and one light preset of every detector. Bars, of int8 over `plain`:
`efficientad` and `efficientad_m` ≥ 3, `simplenet_wrn50` ≥ 2.5. Exits with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from int8 import in_turn, opened

from edgead.backbones._weights import no_downloads
from edgead.benchmarks.environment import record
from edgead.bundle.reader import open_bundle
from edgead.cli._progress import RichProgress
from edgead.data.folder import good_images
from edgead.detectors._presets import PRESETS
from edgead.discovery import load as load_plugin
from edgead.errors import EdgeadError, WeightsError
from edgead.progress import Silent
from edgead.types import Geometry
from edgead.workflows._images import load_pixels
from edgead.workflows._select_candidates import Network, search_of
from edgead.workflows._select_measure import export_untrained
from edgead.workflows.export import export, installed_defaults

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BARS = {"efficientad": 3.0, "efficientad_m": 3.0, "simplenet_wrn50": 2.5}
IMAGES, TRAINED_ON = 16, 200


def preset_times(preset: str, images: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Per precision: median ms, and int8's gain over fp32 in both forms."""
    geometry = Geometry.from_values(PRESETS[preset]["config"]["geometry"])
    items = good_images(images)[:IMAGES]
    pixels = load_pixels(items, geometry, progress=Silent(), name="").pixels
    search = search_of(PRESETS[preset]["detector"])
    end = search or ""
    targets = [f"openvino{end}:fp32", f"openvino{end}:int8"]
    targets[1:1] = [name for name in installed_defaults(search=search) if name == f"openvino{end}:bf16"]
    with tempfile.TemporaryDirectory(prefix="edgead-int8-") as folder:
        paths = [item.path for item in items]
        work = Path(folder)
        bundles = [untrained_bundle(preset, paths, pixels, targets, work, threads), work / "plain.edgead"]
        export(
            work / "trial.model",
            bundles[1],
            calib=work / "images",
            targets=targets[:1],
            accept=True,
            convolutions="plain",
        )
        with contextlib.ExitStack() as stack:
            ours, plain = (opened(stack.enter_context(open_bundle(path)), threads, stack) for path in bundles)
            found, _ = in_turn({**ours, "plain": plain[targets[0]]}, pixels, rounds)
    times = {name.rpartition(":")[2]: p50 for name, p50 in found.items()}
    return {
        "ms": times,
        "over_plain": times["plain"] / times["int8"],
        "over_fp32": times["fp32"] / times["int8"],
        "search": search,
    }


def untrained(preset: str) -> tuple[Any, Any]:
    """The preset's network as it is before training, and the module that would train it."""
    size = Geometry.from_values(PRESETS[preset]["config"]["geometry"]).input_size
    detector = Network(preset, size).build().eval()
    training = load_plugin("edgead.training", PRESETS[preset]["detector"], kind="training recipe")
    with no_downloads(), contextlib.suppress(WeightsError):  # random ones take as long
        training.load_frozen(detector, None, progress=Silent())
    return detector, training


def untrained_bundle(
    preset: str,
    images: list[Path],
    pixels: npt.NDArray[np.uint8],
    targets: list[str],
    folder: Path,
    threads: int,
) -> Path:
    """A bundle in `folder` of the preset's network as it is before training, as large as after one."""
    detector, training = untrained(preset)
    if hasattr(training, "stand_in"):
        training.stand_in(detector, pixels, TRAINED_ON, PRESETS[preset]["training"])
    return export_untrained(detector, preset, images, targets, folder, threads=threads)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("presets", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    presets = options.presets or list(dict.fromkeys((*BARS, *(one["detector"] for one in PRESETS.values()))))
    environment, show, found, failures = record(), RichProgress(), {}, []
    with show.task("presets", len(presets)) as task:
        for preset in presets:
            try:
                found[preset] = preset_times(preset, options.images, options.rounds, options.threads)
            except EdgeadError as err:
                failures.append(f"{preset}: {err}")
            else:
                if found[preset]["over_plain"] < BARS.get(preset, 0.0):
                    failures.append(f"{preset}: {found[preset]['over_plain']:.2f} ×, bar {BARS[preset]} ×")
            task.advance(preset=preset)
    if options.json:
        values = {"passed": not failures, "environment": asdict(environment), "presets": found}
        print(json.dumps(values, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for preset, row in found.items():
        times = "  ".join(f"{name} {value:8.2f} ms" for name, value in row["ms"].items())
        bf16 = row["ms"].get("bf16")
        beside = "" if bf16 is None else f", {bf16 / row['ms']['int8']:.2f} × bf16"
        gain = f"int8 {row['over_plain']:.2f} × plain, {row['over_fp32']:.2f} × fp32{beside}"
        print(f"{preset:24} {times}   {gain}")
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
