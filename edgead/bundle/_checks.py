"""What types alone cannot say about a manifest: ranges, and that its parts fit each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from edgead.bundle._tree import HASH_LIST, MANIFEST, name_problem
from edgead.bundle.hashes import is_content_hash
from edgead.bundle.head import target_problems
from edgead.errors import UsageError
from edgead.types import MAX_AREA, MAX_SIDE, Target, Thresholds

if TYPE_CHECKING:
    from edgead.bundle.manifest import Graph, Manifest, OperatorMatrix, TargetEntry

DATE_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def manifest_problem(manifest: Manifest) -> str | None:
    """The first thing that is wrong, or None."""
    return next(_problems(manifest), None)


def thresholds_problem(thresholds: Thresholds) -> str | None:
    """What is wrong with the limits, or None: the normalised score needs each one above the good median."""
    pairs = (
        (thresholds.image, thresholds.image_median, "image"),
        (thresholds.pixel, thresholds.pixel_median, "pixel"),
    )
    for limit, median, name in pairs:
        if not (math.isfinite(limit) and math.isfinite(median)):
            return f"{name} threshold {limit} or its median {median} is not finite"
        if not limit > median:
            return f"{name} threshold {limit:g} is not above the median {median:g} of good images"
    return None


def date_problem(text: str) -> str | None:
    """What is wrong with a date, or None."""
    try:
        written = datetime.strptime(text, DATE_FORMAT).strftime(DATE_FORMAT)
    except ValueError:
        written = None
    return None if written == text else f"date {text!r} is not of the form 2026-11-23T14:35:56Z (UTC)"


def _problems(manifest: Manifest) -> Iterator[str]:
    for name in sorted(manifest.files()):
        if problem := name_problem(name):
            yield f"the file name {name!r} {problem}"
        if name in (MANIFEST, HASH_LIST):
            yield f"the file name {name!r} is reserved"
    yield from _pixels(manifest)
    yield from _post(manifest)
    yield from _graph(manifest.graph, manifest)
    yield from _targets(manifest)
    yield from _golden(manifest)
    yield from _provenance(manifest)


def _sides(name: str, *sides: int) -> Iterator[str]:
    if any(not 1 <= side <= MAX_SIDE for side in sides) or math.prod(sides) > MAX_AREA:
        size = "x".join(map(str, sides))
        yield f"{name} {size} is out of range (1 to {MAX_SIDE:,} a side, {MAX_AREA:,} in all)"


def _pixels(manifest: Manifest) -> Iterator[str]:
    geometry = manifest.geometry
    yield from _sides("geometry", geometry.height, geometry.width)
    yield from _sides("geometry.window", *geometry.image_size)
    if geometry.tiles is not None and manifest.schema < 2:
        yield f"geometry.tiles needs schema 2, not {manifest.schema}"
    if geometry.mode == "shorter_side" and geometry.width != geometry.height:
        yield f"geometry.width {geometry.width} differs from height {geometry.height}, mode is shorter_side"
    if geometry.roi is not None:
        x, y, width, height = geometry.roi
        yield from _sides("geometry.roi", width, height)
        if not (0 <= x <= MAX_SIDE and 0 <= y <= MAX_SIDE):
            yield f"geometry.roi begins at ({x}, {y}), outside of every frame"


def _post(manifest: Manifest) -> Iterator[str]:
    post = manifest.post
    yield from _sides("post.grid", *post.grid)
    yield from _sides("post.output", *post.output)
    if not 1 <= post.channels <= MAX_SIDE or len(post.alpha) != post.channels:
        yield f"post.alpha has {len(post.alpha)} weights for {post.channels} channels"
    if not all(0 <= cells <= MAX_SIDE for cells in post.pad):
        yield f"post.pad {post.pad} is out of range"
    if not (0 <= post.blur_sigma <= MAX_SIDE and 0 < post.blur_truncate <= MAX_SIDE):
        yield f"post.blur_sigma {post.blur_sigma} or post.blur_truncate {post.blur_truncate} is out of range"
    most = math.prod(post.output) if post.score_rule in ("top_k_sum", "top_k_mean") else 0
    if not min(1, most) <= post.top_k <= most:
        yield f"post.top_k {post.top_k} does not fit score_rule {post.score_rule!r}"
    for name, matrix, axis in (("h", manifest.operator.h, 0), ("w", manifest.operator.w, 1)):
        yield from _matrix(f"operator.{name}", matrix, post.output[axis], post.grid[axis])


def _matrix(name: str, matrix: OperatorMatrix, rows: int, cols: int) -> Iterator[str]:
    if (matrix.rows, matrix.cols) != (rows, cols):
        yield f"{name} is {matrix.rows}x{matrix.cols}, post.output and post.grid ask for {rows}x{cols}"
    if not 1 <= matrix.band <= matrix.cols:
        yield f"{name}.band {matrix.band} is not within 1 .. {matrix.cols}"


def _graph(graph: Graph, manifest: Manifest) -> Iterator[str]:
    post = manifest.post
    image = (graph.input.name, graph.input.dtype, graph.input.shape[1:])
    wanted: tuple[object, ...] = ("image", "uint8", (*manifest.geometry.input_size, 3))
    if image != wanted or len(graph.input.shape) != 4:
        yield f"graph.input is {graph.input}, must be 'image' uint8 (N, H, W, 3) of the geometry's size"
        return
    batch = graph.input.shape[0]
    if not 1 <= batch <= MAX_SIDE:
        yield f"graph.input has a batch of {batch}"
    shapes = {spec.name: spec.shape for spec in graph.outputs if spec.dtype == "float32"}
    grid = post.grid
    if manifest.geometry.tiles is not None:
        if problem := _tiles_problem(shapes.get("anomaly_map", ()), manifest):
            yield problem
            return
        grid = graph.map_grid
    known: dict[str, tuple[int, ...]] = {
        "anomaly_map": (batch, post.channels, *grid),
        "image_score": (batch,),
    }
    for name, shape in shapes.items():
        if shape != known.get(name):
            yield f"graph output {name!r} has shape {shape}, which post does not ask for"
    needed = {"anomaly_map", "image_score"} if post.score_rule == "graph" else {"anomaly_map"}
    if not needed <= shapes.keys() or len(shapes) != len(graph.outputs):
        yield f"graph outputs are {[spec.name for spec in graph.outputs]}, must be float32 {sorted(needed)}"
    if not 1 <= graph.opset <= MAX_SIDE:
        yield f"graph.opset is {graph.opset}"


def _tiles_problem(shape: tuple[int, ...], manifest: Manifest) -> str | None:
    """What keeps maps of `shape` from being joined to one of `post.grid`, or None."""
    if len(shape) != 4 or min(shape) < 1 or shape[0] != 1:
        return f"graph output 'anomaly_map' has shape {shape}, with tiles it must be (1, K, h, w)"
    try:
        tiling = manifest.tiling
    except UsageError as err:
        return str(err)
    if tiling is not None and tiling.grid != manifest.post.grid:
        return f"post.grid is {manifest.post.grid}, the maps of the tiles join to {tiling.grid}"
    return None


def _targets(manifest: Manifest) -> Iterator[str]:
    if not manifest.targets:
        yield "there is no target"
    if problem := thresholds_problem(manifest.reference):
        yield f"reference: {problem}"
    for entry in manifest.targets:
        yield from (f"target {entry.target}: {problem}" for problem in _target(entry, manifest))
    yield from _doubles("target", [entry.target for entry in manifest.targets])
    for before, entry in zip((None, *manifest.targets), manifest.targets, strict=False):
        if before is None and not entry.verified:
            yield f"target {entry.target} is the first and not verified; a bundle begins with one that is"
        if before is not None and entry.verified and not before.verified:
            yield f"target {before.target} is not verified and stands before {entry.target}, which is"


def _target(entry: TargetEntry, manifest: Manifest) -> Iterator[str]:
    try:
        target = Target.parse(entry.target)
    except UsageError as err:
        yield str(err)
        return
    parts = (entry.target, entry.engine, entry.precision, entry.device)
    if parts != (str(target), target.engine, target.precision, target.device):
        yield f"{':'.join(parts[1:])} in engine, precision and device are not its parts"
    if entry.main_file not in entry.files:
        yield f"main_file {entry.main_file!r} is not among its files"
    if problem := thresholds_problem(entry.thresholds):
        yield problem
    if entry.rest != "fp32" and entry.precision != "int8":
        yield f"rest is {entry.rest}, which only int8 has"
    if entry.score_tolerance < 0 or entry.map_tolerance < 0:
        yield "a self-test tolerance is negative"
    yield from target_problems(entry, manifest)


def _golden(manifest: Manifest) -> Iterator[str]:
    targets = sorted(entry.target for entry in manifest.targets)
    if not manifest.golden:
        yield "there is no golden image, the self-test would prove nothing"
    for image in manifest.golden:
        if sorted(expected.target for expected in image.expected) != targets:
            yield f"golden image {image.file!r} must have one expectation for each target"
    yield from _doubles("golden image", [image.file for image in manifest.golden])


def _provenance(manifest: Manifest) -> Iterator[str]:
    provenance = manifest.provenance
    if problem := date_problem(provenance.created):
        yield f"provenance.created: {problem}"
    groups = {
        "train": provenance.train,
        "calibration": provenance.calibration,
        "held_out": provenance.held_out,
        "validation": provenance.validation,
    }
    for name, hashes in {"model": (provenance.model,), **groups}.items():
        wrong = next((text for text in hashes if not is_content_hash(text)), None)
        if wrong is not None:
            yield f"provenance.{name} has {wrong!r}, must be sha256: and 64 lower-case hex digits"
    for name in ("held_out", "validation"):
        if both := set(provenance.train) & set(groups[name]):
            yield f"provenance: {len(both)} images are both in train and in {name}, for instance {min(both)}"
    parity = provenance.graph_parity
    figures = (parity.score_shift_max, parity.score_range, parity.map_shift_max, parity.map_range)
    if parity.images < 1 or min(figures) < 0:
        yield f"provenance.graph_parity has no images or a negative figure: {parity}"


def _doubles(what: str, names: list[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{what} {name} stands {count} times"
