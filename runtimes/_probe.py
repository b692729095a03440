"""Which engines libedgead can open on this machine: asked by opening the smallest bundle there is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import EdgeadError
from edgead.runtimes._base import Availability
from edgead.runtimes.native_runtime import ENGINES, library_for
from edgead.types import Geometry, PostRecipe, Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.manifest import GoldenKind

# graph.onnx of one node, Cast: image uint8 (1, 1, 1, 3) → anomaly_map float32 (1, 1, 1, 3).
_GRAPH = (
    b'\x08\x08:v\n%\n\x05image\x12\x0banomaly_map"\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02\x12\x05probe'
    b"Z\x1f\n\x05image\x12\x16\n\x14\x08\x02\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x03"
    b"b%\n\x0banomaly_map\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x03"
    b"B\x04\n\x00\x10\x11"
)


_PLANS, _NOT_BUILT = "tensorrt", "this build has no TensorRT"


def native_engines() -> dict[str, Availability]:
    """Engine name → whether libedgead can open it here; `why` says what is missing. Raises nothing."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="edgead-probe-") as folder:
        for engine in ENGINES:
            try:
                found[engine] = _try(f"{engine}:fp32", Path(folder) / f"{engine}.edgead")
            except EdgeadError as error:
                found[engine] = Availability(False, str(error))
        found[_PLANS] = Availability(False, _plans(Path(folder) / f"{_PLANS}.edgead"))
    return found


def _plans(path: Path) -> str:
    """What libedgead says of TensorRT, which it has on demand; the probe has no plan that would open."""
    told = ""
    try:
        _try(f"{_PLANS}:fp32:cuda", path)
    except EdgeadError as error:
        told = str(error)
    if _NOT_BUILT in told:
        return "not built: build libedgead with -D TENSORRT_ROOT=DIR"
    return f"built, not run in edgead's tests; here: {told}"


def _try(name: str, path: Path) -> Availability:
    from edgead._native.model import NativeModel

    target = Target.parse(name)
    _write(path, target)
    model = NativeModel(path, target=name, engine_library=library_for(target.engine), threads=1)
    try:
        return Availability(True, version=model.info.engine_version)
    finally:
        model.close()


def _write(path: Path, probed: Target) -> None:
    import cv2
    import numpy as np

    from edgead.bundle.hashes import sha256_bytes
    from edgead.bundle.manifest import (
        DetectorInfo,
        GoldenExpectation,
        GoldenImage,
        Graph,
        GraphParity,
        Identity,
        Manifest,
        Provenance,
        TargetEntry,
        TensorSpec,
        created_by,
        utc_now,
    )
    from edgead.bundle.writer import BundleWriter

    limits = Thresholds(image=1e6, pixel=1e6, image_median=0.0, pixel_median=0.0, method={"rule": "probe"})
    target = str(probed)
    entry = TargetEntry(
        target=target,
        engine=probed.engine,
        precision=probed.precision,
        device=probed.device,
        main_file="graph.onnx",
        files=("graph.onnx",),
        config={},
        identity=Identity(machine="any", device="none", features=(), engine_version="0"),
        thresholds=limits,
        score_tolerance=0.5,
        map_tolerance=0.5,
    )
    with BundleWriter(path) as writer:
        writer.add_file("graph.onnx", _GRAPH)
        golden = []
        levels: dict[GoldenKind, int] = {"good": 10, "synthetic_defect": 200}
        for kind, level in levels.items():
            _, png = cv2.imencode(".png", np.full((1, 1, 3), level, np.uint8))
            writer.add_file(f"golden/{kind}.png", png.tobytes())
            writer.add_map(f"golden/{kind}.map.f32", np.full((1, 3), level, np.float32))
            expected = GoldenExpectation(
                target=target, score_raw=float(level), map_file=f"golden/{kind}.map.f32"
            )
            golden.append(GoldenImage(file=f"golden/{kind}.png", kind=kind, expected=(expected,)))
        writer.finish(
            Manifest(
                created_by=created_by(),
                detector=DetectorInfo(name="probe", preset="probe", config={}),
                geometry=Geometry(height=1, width=1),
                post=PostRecipe(grid=(1, 3), output=(1, 3)),
                operator=writer.add_operator(_Identity(1), _Identity(3)),
                graph=Graph(
                    file="graph.onnx",
                    data_files=(),
                    input=TensorSpec(name="image", dtype="uint8", shape=(1, 1, 1, 3)),
                    outputs=(TensorSpec(name="anomaly_map", dtype="float32", shape=(1, 1, 1, 3)),),
                    opset=17,
                ),
                targets=(entry,),
                reference=limits,
                golden=tuple(golden),
                reports=(),
                provenance=Provenance(
                    created=utc_now(),
                    model=sha256_bytes(b"none"),
                    seeds={},
                    tools={},
                    train=(),
                    calibration=(),
                    held_out=(),
                    validation=(),
                    graph_parity=GraphParity(
                        images=1, score_shift_max=0.0, score_range=0.0, map_shift_max=0.0, map_range=0.0
                    ),
                ),
            )
        )


class _Identity:
    def __init__(self, size: int) -> None:
        import numpy as np

        self.cols = size
        self.start: npt.NDArray[np.int32] = np.arange(size, dtype=np.int32)
        self.weights: npt.NDArray[np.float32] = np.ones((size, 1), np.float32)
