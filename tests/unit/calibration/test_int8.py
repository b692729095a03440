"""INT8 ranges: rules against NumPy on the values themselves, the table, and what cannot be calibrated."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgead.calibration.int8 import CalibrationTable, Histogram, Range, observe, ranges_of
from edgead.errors import BundleError, EngineError
from edgead.progress import Silent

TABLE = CalibrationTable(
    rule="mse",
    images=("sha256:a", "sha256:b"),
    seed=3,
    graphs={"graph.onnx": {"x": Range(-1.5, 2.25), "image": Range(0, 255)}},
)


def histogram(*images: np.ndarray) -> Histogram:
    found = Histogram()
    for image in images:
        found.add(image.astype(np.float32))
    return found


def error_of(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of 8-bit values over low … high, by rounding every value."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    return float(np.mean((np.clip(np.rint((values - low) / step), 0, 255) * step + low - values) ** 2))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e5])
def test_minmax_is_what_was_seen(scale: float) -> None:
    rng = np.random.default_rng(0)
    images = [scale * rng.standard_normal((1, 3, 40, 41)).astype(np.float32) for _ in range(5)]
    expected = Range(float(min(i.min() for i in images)), float(max(i.max() for i in images)))
    assert histogram(*images).range("minmax") == expected


def test_percentile_leaves_the_farthest_out() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((50, 60_001)).astype(np.float32)
    values[7, 123] = 900.0
    found = histogram(*values).range("percentile")
    low, high = np.percentile(values, [0.01, 99.99])
    # The outlier makes the bins 0.5 wide.
    assert low - 0.51 <= found.low <= low + 0.01
    assert high - 0.01 <= found.high <= high + 0.51


@pytest.mark.parametrize("seed", range(3))
def test_mse_is_near_the_best_shrink_and_never_worse_than_all(seed: int) -> None:
    """Against every candidate tried on the values themselves; heavy tails are what it is for."""
    values = np.random.default_rng(seed).standard_t(3, 40_000).astype(np.float32)
    found = histogram(values).range("mse")
    whole = error_of(values, values.min(), values.max())
    best = min(error_of(values, s * values.min(), s * values.max()) for s in np.linspace(0.2, 1, 400))
    error = error_of(values, found.low, found.high)
    assert error <= 1.1 * best
    assert error < whole


def test_counts_survive_when_the_extent_doubles() -> None:
    """Small values first, then larger ones by six powers of ten: the small ones are still counted."""
    found = histogram(np.full(1000, 1e-3), np.full(10, 1e3))
    assert found.range("percentile").high == pytest.approx(1e3, rel=0.01)
    assert found.range("minmax") == Range(float(np.float32(1e-3)), 1e3)


def test_one_value_and_nothing_but_zeros() -> None:
    for rule in ("minmax", "percentile", "mse"):
        assert histogram(np.zeros((2, 3))).range(rule) == Range(0.0, 0.0)
        found = histogram(np.full(5, -2.0)).range(rule)
        assert found.low <= found.high <= 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_names_tensor_and_image(value: float) -> None:
    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        bad = value if image[0, 0, 0, 0] == 1 else 0.5
        return {"fine": np.ones(3, np.float32), "h": np.array([1.0, bad], np.float32)}

    pixels = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1) * np.ones((2, 4, 4, 3), np.uint8)
    with pytest.raises(
        EngineError, match=r"no INT8 range for h on two\.png: not all of its values are finite"
    ):
        observe(run, pixels, ["one.png", "two.png"], progress=Silent())


def test_ranges_of_histograms() -> None:
    found = ranges_of({"x": histogram(np.arange(4.0)), "y": histogram(np.array([-2.0, 1.0]))}, "minmax")
    assert found == {"x": Range(0, 3), "y": Range(-2, 1)}


def test_the_table_reads_back() -> None:
    assert CalibrationTable.from_json(TABLE.to_json(), "t") == TABLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version 3, this edgead reads 2; install a newer edgead"),
        ({"rule": "kl"}, "unknown rule 'kl'"),
        ({"graphs": {"g": {"x": [2, 1]}}}, "the range of x is"),
        ({"graphs": {"g": {"x": [0, math.nan]}}}, "the range of x is"),
        ({"graphs": {"g": {"x": [0]}}}, "no calibration table"),
        ({"images": None}, "no calibration table"),
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, object], message: str) -> None:
    data = json.dumps({**json.loads(TABLE.to_json()), **change}).encode()
    with pytest.raises(BundleError, match=message):
        CalibrationTable.from_json(data, "t.json")
    with pytest.raises(BundleError, match=r"t\.json is no calibration table"):
        CalibrationTable.from_json(b"[]", "t.json")
