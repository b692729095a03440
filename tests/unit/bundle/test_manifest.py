from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgead.bundle.manifest import Manifest, utc_now
from edgead.errors import BundleError, InternalError
from edgead.types import Thresholds

Change = Callable[[dict[str, Any]], object]


def changed(manifest: Manifest, change: Change) -> bytes:
    tree = json.loads(manifest.to_json())
    change(tree)
    return json.dumps(tree).encode()


def test_what_is_written_is_read_back_equal(manifest: Manifest) -> None:
    data = manifest.to_json()
    assert Manifest.from_json(data) == manifest
    assert Manifest.from_json(data).to_json() == data


def test_a_newer_schema_asks_for_an_upgrade_before_anything_else() -> None:
    with pytest.raises(BundleError, match=r"^x: schema 99 was made by a newer edgead; upgrade"):
        Manifest.from_json(b'{"schema": 99, "all": "else is unknown"}', "x")


@pytest.mark.parametrize("schema", [b"0", b"-1", b'"1"', b"1.0", b"true", b"null", b"[]"])
def test_a_schema_that_is_none(schema: bytes) -> None:
    with pytest.raises(BundleError, match="must be an integer from 1; this is no edgead file"):
        Manifest.from_json(b'{"schema": ' + schema + b"}")


def test_unknown_fields_are_ignored(manifest: Manifest) -> None:
    def add(tree: dict[str, Any]) -> None:
        tree["later"] = tree["geometry"]["later"] = tree["targets"][0]["later"] = {"any": [1, None]}

    assert Manifest.from_json(changed(manifest, add)) == manifest


def test_every_field_is_required_and_named_when_missing(manifest: Manifest) -> None:
    tree = json.loads(manifest.to_json())
    checked = 0

    def walk(node: Any) -> None:
        nonlocal checked
        if isinstance(node, list):
            for item in node[:1]:
                walk(item)
        if not isinstance(node, dict):
            return
        for name in list(node):
            kept = dict(node)
            del node[name]
            with pytest.raises(BundleError, match=name if name != "schema" else "schema is None"):
                Manifest.from_json(json.dumps(tree).encode())
            node.clear()
            node.update(kept)
            checked += 1
            if name not in (
                "config",
                "method",
                "seeds",
                "tools",
            ):  # free objects: nothing in them is required
                walk(kept[name])

    walk(tree)
    assert checked > 80


def put(path: str, value: object) -> Change:
    def change(tree: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = tree
        for part in parents:
            node = node[int(part)] if part.isdigit() else node[part]
        node[int(last) if last.isdigit() else last] = value

    return change


HASH = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("created_by", 3, "m: created_by is 3, must be a string"),
        ("created_by", "\x1b[31mred", r"m: created_by: '\x1b[31mred' has control characters"),
        ("detector", [], "m: detector is [], must be an object"),
        ("detector.config.deep", "\ud800", r"m: detector.config.deep: '\ud800' has control characters"),
        ("geometry.height", True, "m: geometry.height is True, must be an integer"),
        ("geometry.height", 8.0, "m: geometry.height is 8.0, must be an integer"),
        ("geometry.height", 0, "m: geometry 0x8 is out of range (1 to 65,536 a side, 268,435,456 in all)"),
        ("geometry.height", 2**53, "m: geometry.height: an integer is larger than 2^53 - 1"),
        ("geometry.resampler", "lanczos", "'lanczos', must be one of pillow_bilinear, opencv_linear"),
        ("geometry.mode", "shorter_side", "m: geometry: shorter_side needs a window"),
        ("geometry.window", [8], "m: geometry.window is [8], must be an array of 2"),
        ("geometry.window", [9, 9], "is larger than the resize 8x8"),
        ("geometry.roi", [-1, 0, 4, 4], "m: geometry.roi begins at (-1, 0), outside of every frame"),
        ("post.alpha", [1, 2], "m: post.alpha has 2 weights for 1 channels"),
        ("post.gamma", "0", "m: post.gamma is '0', must be a number"),
        ("post.top_k", 3, "m: post.top_k 3 does not fit score_rule 'max_grid'"),
        ("post.score_rule", "top_k_sum", "m: post.top_k 0 does not fit score_rule 'top_k_sum'"),
        ("post.score_rule", "graph", "graph outputs are ['anomaly_map'], must be float32"),
        ("post.pad", [0, 0, 0, -1], "m: post.pad (0, 0, 0, -1) is out of range"),
        ("post.blur_sigma", -1, "m: post.blur_sigma -1.0 or post.blur_truncate 4.0 is out of range"),
        ("operator.h.rows", 7, "m: operator.h is 7x4, post.output and post.grid ask for 8x4"),
        ("operator.w.band", 5, "m: operator.w.band 5 is not within 1 .. 4"),
        ("operator.w.start_file", "../x", "m: the file name '../x' is not a plain relative name"),
        ("graph.file", "manifest.json", "m: the file name 'manifest.json' is reserved"),
        ("graph.input.dtype", "float32", "must be 'image' uint8 (N, H, W, 3) of the geometry's size"),
        ("graph.input.shape", [1, 8, 8], "must be 'image' uint8 (N, H, W, 3) of the geometry's size"),
        ("graph.input.shape", [-1, 8, 8, 3], "m: graph.input has a batch of -1"),
        ("graph.outputs.0.shape", [1, 2, 4, 4], "has shape (1, 2, 4, 4), which post does not ask for"),
        ("graph.outputs", [], "m: graph outputs are [], must be float32 ['anomaly_map']"),
        ("graph.opset", 0, "m: graph.opset is 0"),
        ("targets", [], "m: there is no target"),
        ("targets.0.target", "openvino", "m: target openvino: target 'openvino' is not of the form"),
        ("targets.0.device", "gpu", "openvino:fp32:gpu in engine, precision and device are not its parts"),
        ("targets.0.target", "onnxruntime:fp32", "m: target onnxruntime:fp32: openvino:fp32:cpu in engine"),
        ("targets.0.main_file", "model.xml", "main_file 'model.xml' is not among its files"),
        ("targets.0.thresholds.image", 60.75, "image threshold 60.75 is not above the median 60.75"),
        ("reference.pixel", 0, "m: reference: pixel threshold 0 is not above the median 55.875"),
        ("targets.0.map_tolerance", -1e-9, "m: target openvino:fp32: a self-test tolerance is negative"),
        ("golden", [], "m: there is no golden image"),
        ("golden.0.expected", [], "'golden/good.png' must have one expectation for each target"),
        ("golden.1.file", "golden/good.png", "m: golden image golden/good.png stands 2 times"),
        ("provenance.created", "2026-02-30T00:00:00Z", "m: provenance.created: date '2026-02-30T00:00:00Z'"),
        ("provenance.created", "2026-2-3T0:0:0Z", "m: provenance.created: date '2026-2-3T0:0:0Z'"),
        ("provenance.model", "sha256:abc", "m: provenance.model has 'sha256:abc', must be sha256: and 64"),
        ("provenance.seeds.train", "1", "m: provenance.seeds.train is '1', must be an integer"),
        ("provenance.graph_parity.images", 0, "m: provenance.graph_parity has no images"),
    ],
)
def test_what_is_wrong_is_said(manifest: Manifest, path: str, value: object, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(changed(manifest, put(path, value)), "m")
    assert message in str(caught.value)


def mark(*values: object) -> Change:
    """Set `verified` of the first targets; Ellipsis leaves it out."""

    def change(tree: dict[str, Any]) -> None:
        for target, value in zip(tree["targets"], values, strict=False):
            if value is not ...:
                target["verified"] = value

    return change


def test_who_was_verified_is_written_only_where_one_was_not(manifest: Manifest) -> None:
    assert b'"verified"' not in manifest.to_json()
    assert all(entry.verified for entry in manifest.targets)
    assert Manifest.from_json(changed(manifest, mark(True, True))) == manifest
    read = Manifest.from_json(changed(manifest, mark(..., False)))
    assert [entry.verified for entry in read.targets] == [True, False]
    assert read.to_json().count(b'"verified": false') == read.to_json().count(b'"verified"') == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((..., "false"), "m: targets[1].verified is 'false', must be true or false"),
        ((..., None), "m: targets[1].verified is None, must be true or false"),
        ((..., 0), "m: targets[1].verified is 0, must be true or false"),
        ((False, False), "m: target openvino:fp32 is the first and not verified; a bundle begins with one"),
        ((False, True), "m: target openvino:fp32 is the first and not verified"),
    ],
)
def test_who_was_verified_must_make_sense(
    manifest: Manifest, values: tuple[object, ...], message: str
) -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(changed(manifest, mark(*values)), "m")
    assert message in str(caught.value)


def test_rest_is_of_int8_and_fp32_where_it_is_not_written(manifest: Manifest) -> None:
    assert b'"rest"' not in manifest.to_json()

    def rest(value: str, precision: str = "int8") -> Change:
        def change(tree: dict[str, Any]) -> None:
            second = tree["targets"][1]
            engine = second["engine"]
            second |= {"rest": value, "precision": precision, "target": f"{engine}:{precision}"}
            for image in tree["golden"]:
                image["expected"][1]["target"] = second["target"]

        return change

    read = Manifest.from_json(changed(manifest, rest("bf16")))
    assert [entry.rest for entry in read.targets] == ["fp32", "bf16"]
    assert b'"rest": "bf16"' in read.to_json()
    assert b'"rest"' not in Manifest.from_json(changed(manifest, rest("fp32"))).to_json()
    with pytest.raises(BundleError, match=r"targets\[1\]\.rest is 'fp16', must be one of fp32, bf16"):
        Manifest.from_json(changed(manifest, rest("fp16")), "m")
    with pytest.raises(BundleError, match="m: target onnxruntime:bf16: rest is bf16, which only int8 has"):
        Manifest.from_json(changed(manifest, rest("bf16", "bf16")), "m")


def test_no_verified_target_stands_behind_one_that_is_not(manifest: Manifest) -> None:
    def add(tree: dict[str, Any]) -> None:
        first, second = tree["targets"]
        tree["targets"] = [first, {**second, "verified": False}, {**second, "target": "onnxruntime:int8"}]
        tree["targets"][2]["precision"] = "int8"
        for image in tree["golden"]:
            image["expected"].append({**image["expected"][1], "target": "onnxruntime:int8"})

    message = "m: target onnxruntime:fp32 is not verified and stands before onnxruntime:int8, which is"
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(changed(manifest, add), "m")


def add_head(tree: dict[str, Any]) -> dict[str, Any]:
    """Make the first target an engine with a search behind it, over two references of one 4×4 level."""
    target, name = tree["targets"][0], "openvino+window_search:fp32"
    for image in tree["golden"]:
        for expected in image["expected"]:
            if expected["target"] == target["target"]:
                expected["target"] = name
    target |= {"target": name, "engine": "openvino+window_search"}
    target["files"].append("heads/window_search/level0.bin")
    target["head"] = head = {
        "kind": "window_search",
        "references": 2,
        "nearest": 1,
        "dim": 3,
        "bank_type": "fp16",
        "levels": [{"height": 4, "width": 4, "window": 3, "bank_file": "heads/window_search/level0.bin"}],
        "grid": [4, 4],
        "weighted": False,
    }
    return head


def test_a_head_is_read_and_written(manifest: Manifest) -> None:
    read = Manifest.from_json(changed(manifest, add_head))
    assert Manifest.from_json(read.to_json()) == read
    head = read.targets[0].search
    assert head is not None
    assert head.to_values() == read.targets[0].head
    assert [head.bank_bytes(level) for level in head.levels] == [2 * 3 * 16 * 2]
    assert read.targets[1].search is None
    assert b'"head"' not in manifest.to_json()


def add_bank(tree: dict[str, Any], neighbours: int = 0) -> None:
    """Make the first target one with a bank of 5 vectors of 3 values behind it."""
    add_head(tree)
    target, name = tree["targets"][0], "openvino+bank_search:fp32"
    for image in tree["golden"]:
        for expected in image["expected"]:
            if expected["target"] == target["target"]:
                expected["target"] = name
    target |= {"target": name, "engine": "openvino+bank_search"}
    target["files"] += ["bank.f32", "near.i32"]
    target["head"] = {
        "kind": "bank_search",
        "vectors": 5,
        "dim": 3,
        "bank_file": "bank.f32",
        "grid": [4, 4],
        "neighbours": neighbours,
        "neighbours_file": "near.i32" if neighbours else "",
    }


def test_a_bank_is_read_and_written(manifest: Manifest) -> None:
    read = Manifest.from_json(changed(manifest, add_bank))
    assert Manifest.from_json(read.to_json()) == read
    head = read.targets[0].search
    assert head is not None
    assert head.to_values() == read.targets[0].head
    assert head.file_sizes() == {"bank.f32": 60}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("kind", "window_search", "head: kind is 'window_search', must be one of bank_search"),
        ("vectors", 0, "0 vectors, must be 1 to 67108864"),
        ("dim", 4097, "dim is 4097, must be 1 to 4096"),
        ("vectors", 2**25, "is larger than 64 GiB"),
        ("neighbours", 6, "6 neighbours of 5 vectors, must be 0 to 64"),
        ("neighbours", 2, "bank_file '' is not among its files"),
        ("bank_file", "other", "bank_file 'other' is not among its files"),
        ("grid", [4, 5], "grid is (4, 5), that of graph is (4, 4)"),
        ("grid", [2048, 1024], "grid is 2048x1024, must have 1 to 1048576 cells"),
    ],
)
def test_what_is_wrong_with_a_bank_is_said(
    manifest: Manifest, path: str, value: object, message: str
) -> None:
    def change(tree: dict[str, Any]) -> None:
        add_bank(tree)
        head = tree["targets"][0]["head"]
        head[path] = value
        if message.endswith("64 GiB"):
            head["dim"] = 4096

    with pytest.raises(BundleError, match=r"^m: target openvino\+bank_search:fp32: head: ") as caught:
        Manifest.from_json(changed(manifest, change), "m")
    assert message in str(caught.value)


def test_neighbours_and_the_graph_s_own_score_go_together(manifest: Manifest) -> None:
    with pytest.raises(BundleError, match="makes one map of one image and an image_score, the graph has"):
        Manifest.from_json(changed(manifest, lambda tree: add_bank(tree, 2)), "m")


def test_the_head_of_an_engine_that_is_not_known_is_kept(manifest: Manifest) -> None:
    read = Manifest.from_json(changed(manifest, put("targets.0.head", {"kind": "later", "n": 1})))
    assert read.targets[0].head == {"kind": "later", "n": 1}
    assert read.targets[0].search is None
    assert Manifest.from_json(changed(manifest, put("targets.0.head", None))) == manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("kind", "bank_search", "head: kind is 'bank_search', must be one of window_search"),
        ("references", 0, "0 references, must be 1 to 1048576"),
        ("references", 2**20 + 1, "1048577 references"),
        ("nearest", 3, "nearest is 3 of 2 references"),
        ("dim", 4097, "dim is 4097, must be 1 to 4096"),
        ("bank_type", "bf16", "must be one of fp32, fp16, int8"),
        ("weighted", 0, "head: weighted is 0, must be true or false"),
        ("levels", [], "0 levels, must be 1 to 8"),
        ("levels.0.window", 2, "level 0 has a window of 2, must be odd, 1 to 7"),
        ("levels.0.window", 9, "level 0 has a window of 9"),
        ("levels.0.width", 0, "level 0 is 4x0, must be 1 to 32768 a side"),
        ("levels.0.bank_file", "other.bin", "bank_file 'other.bin' is not among its files"),
        ("grid", [4, 5], "grid is (4, 5), that of graph is (4, 4)"),
    ],
)
def test_what_is_wrong_with_a_head_is_said(
    manifest: Manifest, path: str, value: object, message: str
) -> None:
    with pytest.raises(BundleError, match=r"^m: target openvino\+window_search:fp32: head: ") as caught:
        Manifest.from_json(changed(manifest, lambda tree: put(path, value)(add_head(tree))), "m")
    assert message in str(caught.value)


def test_a_head_is_needed_small_enough_and_of_one_map(manifest: Manifest) -> None:
    def refused(message: str, change: Change) -> None:
        def both(tree: dict[str, Any]) -> None:
            add_head(tree)
            change(tree)

        with pytest.raises(BundleError, match=message):
            Manifest.from_json(changed(manifest, both), "m")

    large = {"references": 2**20, "dim": 4096}
    refused("head is None, must be an object", lambda tree: tree["targets"][0].pop("head"))
    refused("is larger than 64 GiB", lambda tree: tree["targets"][0]["head"].update(large))
    refused("batch of 2", _batch_of_two)


def _batch_of_two(tree: dict[str, Any]) -> None:
    tree["graph"]["input"]["shape"][0] = tree["graph"]["outputs"][0]["shape"][0] = 2


@pytest.mark.parametrize("group", ["held_out", "validation"])
def test_an_image_that_was_trained_on_decides_nothing(manifest: Manifest, group: str) -> None:
    seen = manifest.provenance.train[1]
    with pytest.raises(BundleError, match=f"1 images are both in train and in {group}, for instance {seen}"):
        Manifest.from_json(changed(manifest, put(f"provenance.{group}", [HASH, seen])))


def test_calibration_may_use_any_good_image(manifest: Manifest) -> None:
    images = [*manifest.provenance.train, *manifest.provenance.held_out]
    read = Manifest.from_json(changed(manifest, put("provenance.calibration", images)))
    assert read.provenance.calibration == tuple(images)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not valid JSON"),
        (b"\xff{}", "is not valid JSON"),
        (b'\xef\xbb\xbf{"schema": 1}', "is not valid JSON"),
        (b'{"schema": 1', "is not valid JSON"),
        (b'{"schema": NaN}', "NaN is not a number that JSON allows"),
        (b'{"schema": 1, "a": -Infinity}', "-Infinity is not a number that JSON allows"),
        (b'{"schema": 1, "a": 1e999}', "a number is too large for a double"),
        (b'{"schema": 1, "schema": 1}', "the key 'schema' stands twice"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"[" * 100_000, "is nested deeper than 32 levels"),
        (b"[" * 40 + b"]" * 40, "is nested deeper than 32 levels"),
        (b" " * (16 << 20) + b"{}", "more than the limit of 16,777,216"),
        (b"[]", "schema is None"),
    ],
)
def test_json_that_readers_could_take_differently(data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(data, "m")


def test_many_images_may_be_listed_and_one_twice(manifest: Manifest) -> None:
    images = [f"sha256:{number:064x}" for number in range(50_000)] * 2
    read = Manifest.from_json(changed(manifest, put("provenance.train", images)))
    assert read.provenance.train == tuple(images)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), np.float32(1), np.zeros(2), b"bytes", {1: 2}, {"deep": [object()]}, "\x00"],
)
def test_what_json_cannot_hold_is_a_bug_of_the_caller(manifest: Manifest, value: object) -> None:
    detector = dataclasses.replace(manifest.detector, config={"value": value})
    with pytest.raises(InternalError, match=r"detector\.config\.value.* JSON cannot hold"):
        dataclasses.replace(manifest, detector=detector).to_json()


def test_a_manifest_that_no_reader_would_take_is_not_written(manifest: Manifest) -> None:
    wrong = Thresholds(image=1.0, pixel=1.0, image_median=2.0, pixel_median=0.0)
    target = dataclasses.replace(manifest.targets[0], thresholds=wrong)
    with pytest.raises(InternalError, match="image threshold 1 is not above the median 2 of good images"):
        dataclasses.replace(manifest, targets=(target, *manifest.targets[1:])).to_json()


def test_dates_are_utc_seconds(manifest: Manifest) -> None:
    provenance = dataclasses.replace(manifest.provenance, created=utc_now())
    dataclasses.replace(manifest, provenance=provenance).to_json()
