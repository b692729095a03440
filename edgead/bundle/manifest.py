"""What `manifest.json` says, as frozen dataclasses. `FORMAT.md` beside this file is the specification."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

import edgead
from edgead.bundle import _checks, _codec
from edgead.bundle._tree import MANIFEST, MAX_MANIFEST_BYTES
from edgead.bundle.head import BankSearch, WindowSearch, head_of
from edgead.errors import BundleError, InternalError
from edgead.tiling import Tiling, tiling_of
from edgead.types import Geometry, PostRecipe, Precision, Rest, Thresholds

SCHEMA, TILED_SCHEMA = 1, 2
"""As written without and with `geometry.tiles`, which a reader of the first alone must not ignore."""

DType = Literal["uint8", "float32"]
GoldenKind = Literal["good", "synthetic_defect"]


def utc_now() -> str:
    """This second as the bundle writes dates: ``2026-11-23T14:35:56Z``."""
    return datetime.now(timezone.utc).strftime(_checks.DATE_FORMAT)


def created_by() -> str:
    """This edgead, as a bundle names its maker."""
    return f"edgead {edgead.__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorInfo:
    """Which detector this was: `name` = file stem in detectors/, `preset` as trained, its config as JSON."""

    name: str
    preset: str
    config: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A graph's input or output; `shape` is static."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The complete network in standard ONNX operators.

    Attributes:
        file: ``graph.onnx``.
        data_files: its external data, by the names that the graph uses.
        input: ``image``, uint8 (N, H, W, 3) RGB.
        outputs: ``anomaly_map`` float32 (N, K, h, w), and ``image_score`` float32 (N,) where there is one.
        opset: version of the default operator set.
    """

    file: str
    data_files: tuple[str, ...]
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    opset: int

    @property
    def map_grid(self) -> tuple[int, int]:
        """(h, w) of ``anomaly_map``: `PostRecipe.grid`, or with tiles that of one of them."""
        shape = next(spec.shape for spec in self.outputs if spec.name == "anomaly_map")
        return shape[2], shape[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorMatrix:
    """One banded matrix: row r has `band` weights for the columns start[r] .. start[r] + band - 1.

    Attributes:
        rows: length of the map along this axis.
        cols: length of the grid along this axis.
        band: weights per row.
        start_file: int32 little-endian (rows,), no header.
        weights_file: float32 little-endian (rows, band), no header.
    """

    rows: int
    cols: int
    band: int
    start_file: str
    weights_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """X ↦ h · X · wᵀ, what `PostRecipe` describes, as data."""

    h: OperatorMatrix
    w: OperatorMatrix


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphParity:
    """The graph (ONNX Runtime, fp32) held against the MODEL (torch) on `images` images, raw units."""

    images: int
    score_shift_max: float
    score_range: float
    map_shift_max: float
    map_range: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the bundle comes from.

    Attributes:
        created: UTC, ``YYYY-MM-DDThh:mm:ssZ``.
        model: content hash of the MODEL.
        seeds: name of the random choice → seed.
        tools: package → version on the workstation.
        train: content hashes of the good images that training saw.
        calibration: of those that INT8 ranges, or the statistics of an imported detector, were taken from
            (any good ones; often empty).
        held_out: of those that map statistics, thresholds and gates were taken from; none of them in `train`.
        validation: of labelled images, good and anomalous, that a threshold was chosen on; none of them in
            `train`, often empty.
        graph_parity: how far the graph is from the MODEL.
    """

    created: str
    model: str
    seeds: dict[str, int]
    tools: dict[str, str]
    train: tuple[str, ...]
    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    validation: tuple[str, ...]
    graph_parity: GraphParity


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """On what a target was compiled and its golden values were computed.

    Attributes:
        machine: instruction set architecture (``x86_64``, ``aarch64``).
        device: CPU or GPU model as the system names it.
        features: instruction sets or capabilities in use (``avx512_vnni``, ``sm_90``).
        engine_version: version of the engine's library.
    """

    machine: str
    device: str
    features: tuple[str, ...]
    engine_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry:
    """One compiled target.

    Attributes:
        target: ``<engine>:<precision>[:device]``; engine, precision and device are its parts.
        main_file: what the runtime opens; one of `files`.
        files: everything that the engine reads; targets may share files.
        config: options that the engine is given when it opens the file.
        identity: where it was compiled.
        thresholds: this target's own, raw units.
        score_tolerance: most that a golden image's raw score may move on another machine, raw units.
        map_tolerance: the same for each value of its map.
        verified: False of a target that could not run where it was compiled: golden values, thresholds and
            tolerances are of ONNX Runtime on the CPU, on the graph that it was compiled from, and it must
            pass its self-test before it judges anything. Such targets stand behind all others.
        rest: of int8, what is not quantised is computed in it where this is fast, elsewhere in fp32.
        head: what libedgead does behind the engine, as a head's `to_values` gives it; None for an engine that
            makes the map itself. Of engines that this edgead does not know, whatever it is.
    """

    target: str
    engine: str
    precision: Precision
    device: str
    main_file: str
    files: tuple[str, ...]
    config: dict[str, object]
    identity: Identity
    thresholds: Thresholds
    score_tolerance: float
    map_tolerance: float
    rest: Rest = field(default="fp32", metadata=_codec.OPTIONAL)
    verified: bool = field(default=True, metadata=_codec.OPTIONAL)
    head: dict[str, object] | None = field(default=None, metadata=_codec.OPTIONAL)

    @property
    def search(self) -> WindowSearch | BankSearch | None:
        """The head of an engine whose name asks for one.

        Raises:
            BundleError: there is none, or not one that this edgead reads.
        """
        return head_of(self.engine, self.head, "head")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenExpectation:
    """What `target` gave for one golden image; `map_file`: float32 little-endian (post.output), no header."""

    target: str
    score_raw: float
    map_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenImage:
    """A held-out good image, or one with a synthetic defect.

    `file` is a PNG; `expected` has one entry for each target.
    """

    file: str
    kind: GoldenKind
    expected: tuple[GoldenExpectation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`manifest.json`.

    Attributes:
        targets: in the order of preference.
        reference: thresholds of the MODEL itself (torch), chosen as the targets' are: what decisions of a
            target are compared with, and what `graph` decides by.
        reports: names under ``reports/``.
    """

    schema: int = SCHEMA
    created_by: str
    detector: DetectorInfo
    geometry: Geometry
    post: PostRecipe
    operator: Operator
    graph: Graph
    targets: tuple[TargetEntry, ...]
    reference: Thresholds
    golden: tuple[GoldenImage, ...]
    reports: tuple[str, ...]
    provenance: Provenance

    @property
    def tiling(self) -> Tiling | None:
        """The tiles that the graph sees of an image; None where it sees the whole.

        Raises:
            UsageError: their maps do not fit together.
        """
        return tiling_of(self.geometry, self.graph.map_grid, self.post.pad)

    @classmethod
    def from_json(cls, data: bytes, source: str = MANIFEST) -> Manifest:
        """Read a manifest; `source` names it in messages.

        Raises:
            BundleError: larger than 16 MiB, made by a newer edgead, or not what FORMAT.md asks for.
        """
        tree = _codec.parse(data, source, MAX_MANIFEST_BYTES)
        _codec.check_schema(tree, TILED_SCHEMA, source)
        manifest = _codec.decode(cls, tree, source)
        if problem := _checks.manifest_problem(manifest):
            raise BundleError(f"{source}: {problem}")
        return manifest

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON that `from_json` reads back as an equal value.

        Raises:
            InternalError: a value that no reader would accept.
        """
        data = _codec.dump(self)
        try:
            Manifest.from_json(data)
        except BundleError as err:
            raise InternalError(f"refused to write a manifest that cannot be read: {err}") from err
        return data

    def files(self) -> set[str]:
        """Every file that the manifest names."""
        operator = (self.operator.h, self.operator.w)
        return {
            self.graph.file,
            *self.graph.data_files,
            *(name for matrix in operator for name in (matrix.start_file, matrix.weights_file)),
            *(name for entry in self.targets for name in entry.files),
            *(image.file for image in self.golden),
            *(expected.map_file for image in self.golden for expected in image.expected),
            *self.reports,
        }
