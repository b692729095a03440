"""window_search.cu on the CPU, and on a GPU wherever one is, against libedgead and NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from edgead._native.window_search import WindowSearch
from edgead.errors import EngineError, UsageError
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda.window_search import CudaWindowSearch

MakeDevice = Callable[[bool], Device]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
BANK_TYPES = ("float32", "float16", "int8")
REFERENCES, IMAGES = 5, 2


@dataclass(frozen=True)
class Shape:
    """Sizes of a search."""

    levels: tuple[tuple[int, int, int], ...]  # height, width, window
    grid: tuple[int, int]
    dim: int
    nearest: int = 3
    weighted: bool = False


SHAPES = {
    "as CPR": Shape(((12, 17, 3), (6, 9, 1)), (24, 34), 16, weighted=True),
    "more than a tile": Shape(((17, 33, 3),), (17, 33), 6),
    "one cell": Shape(((1, 1, 7),), (5, 4), 3, nearest=1),
    "windows larger than the grid": Shape(
        ((3, 2, 7), (2, 3, 5)), (7, 9), 5, nearest=REFERENCES, weighted=True
    ),
    "one value, one row": Shape(((1, 40, 3),), (1, 130), 1),
    "three levels, smaller map": Shape(((10, 6, 5), (4, 4, 3), (20, 3, 1)), (4, 3), 7, weighted=True),
    "a large window": Shape(((18, 35, 7),), (18, 70), 9, nearest=2),
}


@dataclass(frozen=True)
class Inputs:
    """What a run is given."""

    banks: list[npt.NDArray[np.generic]]
    queries: list[Floats]  # (images, dim, height, width)
    references: npt.NDArray[np.int32]  # (images, nearest)
    weight: Floats | None  # (images, height, width)


def _stored(vectors: Doubles, bank_type: str) -> npt.NDArray[np.generic]:
    """(references, height, dim, width) of unit length as a bank holds them."""
    if bank_type == "int8":
        return np.ascontiguousarray(np.rint(vectors * 127), np.int8)
    return np.ascontiguousarray(vectors, bank_type)


def _inputs(shape: Shape, bank_type: str, seed: int = 8) -> Inputs:
    rng = np.random.default_rng(seed)
    banks, queries = [], []
    for height, width, _ in shape.levels:
        vectors = rng.normal(size=(REFERENCES, height, shape.dim, width))
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        banks.append(_stored(vectors, bank_type))
        queries.append(rng.normal(size=(IMAGES, shape.dim, height, width)).astype(np.float32))
    references = np.stack([rng.permutation(REFERENCES)[: shape.nearest] for _ in range(IMAGES)])
    weight = None
    if shape.weighted:
        weight = rng.random((IMAGES, *shape.levels[0][:2])).astype(np.float32)
    return Inputs(banks, queries, references.astype(np.int32), weight)


def _run(device: Device, search: CudaWindowSearch, shape: Shape, inputs: Inputs) -> Floats:
    """(images, H, W)."""

    def put(array: npt.NDArray[np.generic]) -> int:
        address = device.allocate(array.nbytes, "inputs")
        device.copy_in(address, np.ascontiguousarray(array))
        device.synchronize()
        return address

    queries = [put(query) for query in inputs.queries]
    weight = 0 if inputs.weight is None else put(inputs.weight)
    found = np.empty((IMAGES, *shape.grid), np.float32)
    out = device.allocate(found.nbytes, "the map")
    search.enqueue(queries, put(inputs.references), out, weight)
    device.copy_out(found, out)
    device.synchronize()
    return found


def _search(device: Device, shape: Shape, inputs: Inputs) -> CudaWindowSearch:
    return CudaWindowSearch(
        device,
        inputs.banks,
        [window for *_, window in shape.levels],
        nearest=shape.nearest,
        grid=shape.grid,
        weighted=shape.weighted,
        images=IMAGES,
    )


def _native(shape: Shape, inputs: Inputs) -> Floats:
    windows = [window for *_, window in shape.levels]
    search = WindowSearch(
        inputs.banks, windows, nearest=shape.nearest, grid=shape.grid, weighted=shape.weighted
    )
    out = np.empty((IMAGES, *shape.grid), np.float32)
    for image in range(IMAGES):
        search.run(
            [np.ascontiguousarray(query[image]) for query in inputs.queries],
            np.ascontiguousarray(inputs.references[image]),
            None if inputs.weight is None else np.ascontiguousarray(inputs.weight[image]),
            out=out[image],
        )
    return out


def _interpolated(values: Doubles, height: int, width: int) -> Doubles:
    """Bilinear with half-pixel centres, by matrices; NaN where a cell that is used is not finite."""

    def matrix(pixels: int, cells: int) -> Doubles:
        out = np.zeros((pixels, cells))
        for pixel in range(pixels):
            at = min(max((pixel + 0.5) * cells / pixels - 0.5, 0.0), cells - 1.0)
            low = int(at)
            out[pixel, low] += 1 - (at - low)
            out[pixel, min(low + 1, cells - 1)] += at - low
        return out

    rows, columns = matrix(height, values.shape[0]), matrix(width, values.shape[1]).T
    odd = ~np.isfinite(values)
    out: Doubles = rows @ np.where(odd, 0.0, values) @ columns
    out[(rows > 0).astype(int) @ odd @ (columns > 0) > 0] = np.nan
    return out


def _exact(shape: Shape, inputs: Inputs, image: int) -> Doubles:
    """The definition in edgead.h, by loops over the window's offsets."""
    total: Doubles = np.zeros(shape.levels[0][:2])
    for (height, width, window), bank, queries in zip(
        shape.levels, inputs.banks, inputs.queries, strict=True
    ):
        reach = window // 2
        query = queries[image].astype(np.float64)
        best = np.full((height, width), -np.inf)
        for reference in inputs.references[image]:
            vectors = bank[reference].astype(np.float64).transpose(1, 0, 2)
            if bank.dtype == np.int8:
                vectors = vectors / 127
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    ys = slice(max(0, -dy), max(0, height - max(0, dy)))
                    xs = slice(max(0, -dx), max(0, width - max(0, dx)))
                    moved = vectors[:, max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
                    with np.errstate(invalid="ignore"):  # infinite queries
                        products = (query[:, ys, xs] * moved).sum(axis=0)
                    best[ys, xs] = np.maximum(best[ys, xs], products)
        norm = np.sqrt(np.square(query).sum(axis=0))
        with np.errstate(invalid="ignore"):
            distances = np.where(norm <= 1e34, 1 - best / (norm + 1e-8), np.nan)
        total = total + _interpolated(distances, *shape.levels[0][:2])
    out = _interpolated(total, *shape.grid)
    return out if inputs.weight is None else out * _interpolated(inputs.weight[image], *shape.grid)


def _assert_alike(found: Floats, expected: Floats) -> None:
    """The same bits, but that each level's distance may have rounded to a neighbouring float.

    libedgead's NaN reaches further: its vectors hold columns that do not use the cell.
    """
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=3e-7, atol=1e-14)
    assert np.mean(found[finite] == expected[finite]) > 0.98


@pytest.mark.parametrize("bank_type", BANK_TYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_the_same_map_as_libedgead_and_float64(name: str, bank_type: str, each_device: Device) -> None:
    shape, device = SHAPES[name], each_device
    inputs = _inputs(shape, bank_type)
    search = _search(device, shape, inputs)
    # What a run leaves behind does not disturb the next.
    for given in (inputs, replace(inputs, queries=[-query for query in inputs.queries])):
        found = _run(device, search, shape, given)
        search.check()
        _assert_alike(found, _native(shape, given))
        for image in range(IMAGES):
            exact = _exact(shape, given, image)
            # D products and sums of each level in fp32: D * 2^-24 of a distance's scale, 1.
            bound = len(shape.levels) * (shape.dim + 8) * 2.0**-24 * max(1.0, float(np.abs(exact).max()))
            assert np.abs(found[image] - exact).max() <= bound


def _extremes() -> dict[str, Callable[[npt.NDArray[np.float32]], None]]:
    """What is done to queries (images, dim, height, width) in place."""

    def some(value: float) -> Callable[[npt.NDArray[np.float32]], None]:
        def change(query: npt.NDArray[np.float32]) -> None:
            query[0, 0, 1, 1] = query[1, -1, -1, -1] = value

        return change

    def times(factor: float) -> Callable[[npt.NDArray[np.float32]], None]:
        def change(query: npt.NDArray[np.float32]) -> None:
            query *= np.float32(factor)

        return change

    return {
        "NaN": some(np.nan),
        "infinite": some(np.inf),
        "minus infinite": some(-np.inf),
        "too long": some(3e38),
        "an outlier": some(1e6),
        "all 0": times(0.0),
        "tiny": times(1e-40),
        "short against 1e-8": times(1e-9),
        "long": times(1e32),
    }


EXTREMES = _extremes()


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("bank_type", BANK_TYPES)
def test_extreme_queries_give_what_libedgead_gives(bank_type: str, kind: str, each_device: Device) -> None:
    shape, device = SHAPES["as CPR"], each_device
    inputs = _inputs(shape, bank_type)
    for query in inputs.queries:
        EXTREMES[kind](query)
    found = _run(device, _search(device, shape, inputs), shape, inputs)
    _assert_alike(found, _native(shape, inputs))
    assert np.isnan(found).any() == (kind in ("NaN", "infinite", "minus infinite", "too long"))
    for image in range(IMAGES):
        np.testing.assert_array_equal(np.isnan(found[image]), np.isnan(_exact(shape, inputs, image)))


def test_duplicates_and_queries_of_the_bank(make_device: MakeDevice) -> None:
    shape = replace(SHAPES["more than a tile"], nearest=4)
    device, inputs = make_device(True), _inputs(SHAPES["more than a tile"], "float32")
    (bank,) = inputs.banks
    bank[1:] = bank[0]
    query = np.ascontiguousarray(np.repeat(bank[:1].transpose(0, 2, 1, 3), IMAGES, axis=0), np.float32)
    inputs = replace(inputs, queries=[query * np.float32(7)], references=np.zeros((IMAGES, 4), np.int32))
    found = _run(device, _search(device, shape, inputs), shape, inputs)
    _assert_alike(found, _native(shape, inputs))
    assert np.abs(found).max() < 1e-6  # each finds itself


def test_weights_that_are_no_numbers(make_device: MakeDevice) -> None:
    shape, device = SHAPES["as CPR"], make_device(False)
    inputs = _inputs(shape, "float32")
    assert inputs.weight is not None
    inputs.weight[0, 3, 4], inputs.weight[1, 5, 6], inputs.weight[1, 0, 0] = np.nan, np.inf, -np.inf
    found = _run(device, _search(device, shape, inputs), shape, inputs)
    _assert_alike(found, _native(shape, inputs))
    for image in range(IMAGES):
        np.testing.assert_array_equal(np.isfinite(found[image]), np.isfinite(_exact(shape, inputs, image)))


@pytest.mark.parametrize("index", [REFERENCES, -1, 2**31 - 1])
def test_a_reference_outside_of_the_bank_is_told(index: int, make_device: MakeDevice) -> None:
    shape, device = SHAPES["as CPR"], make_device(False)
    inputs = _inputs(shape, "float16")
    good = _native(shape, inputs)
    search = _search(device, shape, inputs)
    bad = inputs.references.copy()
    bad[1, 1:] = index
    found = _run(device, search, shape, replace(inputs, references=bad))
    assert np.isnan(found[1]).all()
    _assert_alike(found[:1], good[:1])
    with pytest.raises(EngineError, match=r"nearest reference 1 of image 1 .* 0 \.\. 4; export"):
        search.check()
    _assert_alike(_run(device, search, shape, inputs), good)  # the next run is sound again
    search.check()


def test_what_does_not_fit_is_refused(make_device: MakeDevice) -> None:
    device = make_device(False)
    bank = np.zeros((2, 3, 4, 5), np.float32)

    def made(
        banks: list[npt.NDArray[np.generic]],
        windows: list[int],
        nearest: int = 1,
        grid: tuple[int, int] = (3, 5),
    ) -> CudaWindowSearch:
        return CudaWindowSearch(device, banks, windows, nearest=nearest, grid=grid)

    with pytest.raises(UsageError, match="1 banks, 2 windows"):
        made([bank], [3, 1])
    with pytest.raises(UsageError, match="a bank is float64"):
        made([bank.astype(np.float64)], [3])
    with pytest.raises(UsageError, match="of one type"):
        made([bank, bank.astype(np.float16)], [3, 1])
    with pytest.raises(UsageError, match="nearest is 3; use 1 to 2"):
        made([bank], [3], nearest=3)
    with pytest.raises(UsageError, match="grid is 0"):
        made([bank], [3], grid=(0, 5))
    with pytest.raises(UsageError, match=r"windows are \(4,\)"):
        made([bank], [4])
    for bad in (np.float32(1.1), np.float32(np.nan), np.float16(-2), np.int8(-128)):
        values = bank.astype(bad.dtype)
        values[1, 2, 3, 4] = bad
        with pytest.raises(UsageError, match="level 0 has values that are no part of a vector of length 1"):
            made([values], [3])
    with pytest.raises(UsageError, match="is given a weight exactly where"):
        made([bank], [3]).enqueue([1], 1, 1, weight=1)
