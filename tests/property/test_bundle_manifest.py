"""A manifest comes back equal from its JSON; anything else is refused with a `BundleError`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgead.bundle.hashes import sha256_bytes
from edgead.bundle.manifest import (
    DetectorInfo,
    GoldenExpectation,
    GoldenImage,
    Graph,
    GraphParity,
    Identity,
    Manifest,
    Operator,
    OperatorMatrix,
    Provenance,
    TargetEntry,
    TensorSpec,
)
from edgead.errors import BundleError
from edgead.types import Geometry, PostRecipe, Thresholds

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bundle_v1.edgead" / "manifest.json"

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
names = st.from_regex(r"[a-z0-9_][a-z0-9_+-]{0,9}(/[a-z0-9_]{1,9}){0,3}", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e300)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
sides = st.integers(1, 2048)
leaves = st.none() | st.booleans() | integers | finite | texts
free = st.dictionaries(
    texts,
    st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3)),
    max_size=3,
)
hashes = st.binary(max_size=8).map(sha256_bytes)
hash_lists = st.lists(hashes, max_size=4).map(tuple)


@st.composite
def thresholds(draw: st.DrawFn) -> Thresholds:
    values = [draw(finite) for _ in range(2)]
    above = [max(value + draw(st.floats(0.001, 1e6)), math.nextafter(value, math.inf)) for value in values]
    return Thresholds(
        image=min(above[0], 1.7e308),
        pixel=min(above[1], 1.7e308),
        image_median=min(values[0], 1.6e308),
        pixel_median=min(values[1], 1.6e308),
        method=draw(free),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    height, width, rows, cols = (draw(sides) for _ in range(4))
    grid = (draw(st.integers(1, rows)), draw(st.integers(1, cols)))
    channels = draw(st.integers(1, 4))
    rule = draw(st.sampled_from(["max_grid", "max", "top_k_sum", "top_k_mean", "graph"]))
    targets = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["openvino", "onnxruntime", "tensorrt"]),
                st.sampled_from(["fp32", "bf16", "fp16", "int8"]),
                st.sampled_from(["cpu", "gpu0"]),
            ),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    written = [":".join(parts if parts[2] != "cpu" else parts[:2]) for parts in targets]
    seen = draw(st.integers(1, len(targets)))
    matrices = [
        OperatorMatrix(
            rows=(rows, cols)[axis],
            cols=grid[axis],
            band=draw(st.integers(1, grid[axis])),
            start_file=draw(names),
            weights_file=draw(names),
        )
        for axis in (0, 1)
    ]
    outputs = [TensorSpec(name="anomaly_map", dtype="float32", shape=(1, channels, *grid))]
    if rule == "graph":
        outputs.append(TensorSpec(name="image_score", dtype="float32", shape=(1,)))
    geometry = Geometry(
        height=height,
        width=width,
        resampler=draw(st.sampled_from(["pillow_bilinear", "opencv_linear"])),
        window=draw(st.none() | st.tuples(st.integers(1, height), st.integers(1, width))),
        roi=draw(st.none() | st.tuples(sides, sides, sides, sides)),
    )
    train = draw(hash_lists)
    files = draw(st.lists(names, min_size=1, max_size=3))
    return Manifest(
        created_by=draw(texts),
        detector=DetectorInfo(name=draw(texts), preset=draw(texts), config=draw(free)),
        geometry=geometry,
        post=PostRecipe(
            grid=grid,
            output=(rows, cols),
            channels=channels,
            alpha=tuple(draw(finite) for _ in range(channels)),
            gamma=draw(finite),
            gamma_stage=draw(st.sampled_from(["before", "after"])),
            pad=draw(st.tuples(*[st.integers(0, 9)] * 4)),
            upsample=draw(st.sampled_from(["none", "nearest", "bilinear"])),
            blur_sigma=draw(st.floats(0, 100)),
            border=draw(st.sampled_from(["reflect", "mirror", "nearest"])),
            score_rule=rule,
            top_k=draw(st.integers(1, rows * cols)) if rule.startswith("top_k") else 0,
        ),
        operator=Operator(h=matrices[0], w=matrices[1]),
        graph=Graph(
            file=draw(names),
            data_files=tuple(draw(st.lists(names, max_size=2))),
            input=TensorSpec(name="image", dtype="uint8", shape=(1, *geometry.input_size, 3)),
            outputs=tuple(outputs),
            opset=draw(st.integers(1, 30)),
        ),
        targets=tuple(
            TargetEntry(
                target=text,
                engine=engine,
                precision=precision,
                device=device,
                main_file=draw(st.sampled_from(files)),
                files=tuple(files),
                config=draw(free),
                identity=Identity(
                    machine=draw(texts),
                    device=draw(texts),
                    features=tuple(draw(st.lists(texts, max_size=3))),
                    engine_version=draw(texts),
                ),
                thresholds=draw(thresholds()),
                score_tolerance=draw(positive),
                map_tolerance=draw(positive),
                rest=draw(st.sampled_from(["fp32", "bf16"])) if precision == "int8" else "fp32",
                verified=place < seen,
            )
            for place, (text, (engine, precision, device)) in enumerate(zip(written, targets, strict=True))
        ),
        reference=draw(thresholds()),
        golden=tuple(
            GoldenImage(
                file=name,
                kind=draw(st.sampled_from(["good", "synthetic_defect"])),
                expected=tuple(
                    GoldenExpectation(target=text, score_raw=draw(finite), map_file=draw(names))
                    for text in written
                ),
            )
            for name in draw(st.lists(names, min_size=1, max_size=2, unique=True))
        ),
        reports=tuple(draw(st.lists(names, max_size=2))),
        provenance=Provenance(
            created=draw(st.datetimes().filter(lambda d: d.year > 999)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            model=draw(hashes),
            seeds=draw(st.dictionaries(texts, integers, max_size=2)),
            tools=draw(st.dictionaries(texts, texts, max_size=2)),
            train=train,
            calibration=draw(hash_lists),
            held_out=tuple(text for text in draw(hash_lists) if text not in train),
            validation=tuple(text for text in draw(hash_lists) if text not in train),
            graph_parity=GraphParity(
                images=draw(st.integers(1, 99)),
                score_shift_max=draw(positive),
                score_range=draw(positive),
                map_shift_max=draw(positive),
                map_range=draw(positive),
            ),
        ),
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(manifests())
def test_a_manifest_comes_back_equal(manifest: Manifest) -> None:
    data = manifest.to_json()
    read = Manifest.from_json(data)
    assert read == manifest
    assert read.to_json() == data


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_manifest_is_read_or_refused_with_a_bundle_error(data: st.DataObject) -> None:
    tree = json.loads(GOLDEN.read_bytes())
    node, key = tree, data.draw(st.sampled_from(sorted(tree)))
    while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(leaves | st.lists(leaves, max_size=4) | free)
    try:
        read = Manifest.from_json(json.dumps(tree).encode())
    except BundleError:
        return
    assert Manifest.from_json(read.to_json()) == read


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, 4000).flatmap(lambda n: st.just(GOLDEN.read_bytes()[:n])))
def test_any_bytes_are_refused_with_a_bundle_error(data: bytes) -> None:
    try:
        Manifest.from_json(data)
    except BundleError:
        return
    raise AssertionError("a manifest out of nothing")
