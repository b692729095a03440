"""bank_search.cu on the CPU, and on a GPU wherever one is, against libedgead's bits and against float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from edgead._native.bank_search import BankSearch
from edgead.errors import UsageError
from edgead.runtimes.cuda import bank_search
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda.bank_search import CudaBankSearch

MakeDevice = Callable[[bool], Device]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """A bank, and queries of two images."""

    bank: Floats
    queries: Floats  # (2, cells, D)


def _floats(values: npt.NDArray[np.float64]) -> Floats:
    return np.ascontiguousarray(values, np.float32)


def _problems() -> dict[str, Problem]:
    rng = np.random.default_rng(6)
    made = {}
    for name, vectors, cells, dim in (
        ("one vector", 1, 3, 5),
        ("one value per vector", 40, 6, 1),
        ("a dim that is no multiple of 4", 300, 20, 37),
        ("exactly a tile", 128, 64, 8),
        ("one more than a tile", 129, 65, 9),
        ("more groups than threads", 8500, 2, 3),
    ):
        made[name] = Problem(
            _floats(rng.normal(size=(vectors, dim))), _floats(rng.normal(size=(2, cells, dim)))
        )
    bank = _floats(rng.normal(size=(200, 24)))
    made["far from the origin"] = Problem(bank + np.float32(1e4), _floats(rng.normal(size=(2, 20, 24)) + 1e4))
    made["outliers"] = Problem(bank, _floats(rng.normal(size=(2, 20, 24)) * 1e6))
    tails = _floats(rng.standard_cauchy(size=(300, 24)) ** 3)
    made["heavy tails"] = Problem(tails, _floats(rng.standard_cauchy(size=(2, 30, 24)) ** 3))
    huge = _floats(np.clip(rng.normal(size=(200, 24)) * 4e14, -1e15, 1e15))
    made["the largest values"] = Problem(huge, _floats(rng.normal(size=(2, 20, 24)) * 1e15))
    made["products that overflow"] = Problem(huge, _floats(rng.normal(size=(2, 20, 24)) * 1e25))
    # In fp32 the last vector, alone in its group, is infinitely far: the first product says so.
    away = np.repeat(huge[64:65] * np.float32(1e10), 6, axis=0).reshape(2, 3, 24)
    away[..., 0] *= -1
    made["products that overflow to the wrong side"] = Problem(huge[:65], away)
    made["the least values"] = Problem(
        bank * np.float32(1e-42), _floats(rng.normal(size=(2, 20, 24)) * 1e-42)
    )
    made["squares that underflow"] = Problem(
        bank * np.float32(1e-24), _floats(rng.normal(size=(2, 20, 24)) * 1e-24)
    )
    whole = _floats(rng.integers(0, 2, (400, 8)))  # ties everywhere
    made["ties"] = Problem(whole, _floats(rng.integers(0, 3, (2, 40, 8))))
    made["all vectors alike"] = Problem(np.ones((300, 7), np.float32), _floats(rng.normal(size=(2, 3, 7))))
    made["queries of the bank"] = Problem(
        np.concatenate([bank, bank]), np.ascontiguousarray(bank[None, :50].repeat(2, axis=0))
    )
    # One float apart: fp32 products cannot tell them from each other.
    alike = np.where(rng.random((200, 24)) < 0.5, np.nextafter(bank[:1], np.float32(9)), bank[:1])
    made["one float apart"] = Problem(alike, bank[None, :20].repeat(2, axis=0) + np.float32(1e-3))
    odd = _floats(rng.normal(size=(2, 20, 24)))
    odd[0, 3, 5], odd[0, 7, 0], odd[0, 8, 0], odd[1, 9, 1] = np.nan, np.inf, -np.inf, 3e38
    odd[1, 10], odd[1, 11] = 3e38, 1e17
    made["not finite, or very far"] = Problem(bank, odd)
    return made


PROBLEMS = _problems()


def _near(bank: Floats, count: int) -> npt.NDArray[np.int32]:
    """Those nearest to each vector, itself first."""
    apart = np.square(bank[:, None].astype(np.float64) - bank).sum(axis=2)
    np.fill_diagonal(apart, -1.0)
    return np.ascontiguousarray(np.argsort(apart, axis=1, kind="stable")[:, :count], np.int32)


def _run(
    device: Device, search: CudaBankSearch, queries: Floats, *, scored: bool = False
) -> tuple[npt.NDArray[np.int32], Floats, Floats | None]:
    """Indices and distances (images, cells), scores (images,)."""
    address = device.allocate(queries.nbytes, "queries")
    device.copy_in(address, queries)
    indices = np.empty(queries.shape[:2], np.int32)
    distances = np.empty(queries.shape[:2], np.float32)
    score = np.empty(len(queries), np.float32) if scored else None
    out = device.allocate(distances.nbytes, "distances")
    score_out = device.allocate(4 * len(queries), "scores") if scored else 0
    search.enqueue(address, out, score_out)
    device.copy_out(indices, search.indices)
    device.copy_out(distances, out)
    if score is not None:
        device.copy_out(score, score_out)
    device.synchronize()
    return indices, distances, score


def _assert_nearest(problem: Problem, indices: npt.NDArray[np.int32], distances: Floats) -> None:
    """No vector is nearer in float64, and the root of the squares rounds to the distance."""
    bank = problem.bank.astype(np.float64)
    queries = problem.queries.astype(np.float64).reshape(-1, bank.shape[1])
    for index, distance, query in zip(indices.flat, distances.flat, queries, strict=True):
        if not np.isfinite(query).all():
            assert index == 0
            assert np.isnan(distance)
            continue
        squares = np.square(bank - query).sum(axis=1)
        assert squares[index] <= squares.min() * (1 + 1e-13)
        with np.errstate(over="ignore"):  # a distance may be too large for a float
            np.testing.assert_array_max_ulp(distance, np.float32(np.sqrt(squares.min())), 1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_same_neighbours_and_bits_as_libedgead(name: str, each_device: Device) -> None:
    problem, device = PROBLEMS[name], each_device
    bank, queries = problem.bank, problem.queries
    cells = queries.shape[1]
    near = _near(bank[:500], min(9, len(bank))) if len(bank) <= 500 else None
    search = CudaBankSearch(device, bank, cells=cells, images=2, near=near)
    native = BankSearch(bank, queries=cells, near=near, threads=1)
    for _ in range(2):  # what a run leaves behind does not disturb the next
        indices, distances, score = _run(device, search, queries, scored=near is not None)
        _assert_nearest(problem, indices, distances)
        for image in range(2):
            expected_indices, expected = np.empty(cells, np.int32), np.empty(cells, np.float32)
            expected_score = np.empty(1, np.float32)
            native.run(
                queries[image],
                indices=expected_indices,
                distances=expected,
                score=None if near is None else expected_score,
            )
            np.testing.assert_array_equal(indices[image], expected_indices)
            np.testing.assert_array_equal(distances[image], expected)
            if score is not None:
                np.testing.assert_allclose(score[image], expected_score[0], rtol=2e-7)


def test_a_search_in_several_launches_finds_the_same(
    make_device: MakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, device = np.random.default_rng(2), make_device(False)
    bank, queries = _floats(rng.normal(size=(140, 6))), _floats(rng.normal(size=(3, 100, 6)))
    near = _near(bank, 4)
    whole = _run(device, CudaBankSearch(device, bank, cells=100, images=3, near=near), queries, scored=True)
    monkeypatch.setattr(bank_search, "_SCRATCH_BYTES", 1)
    parts = _run(device, CudaBankSearch(device, bank, cells=100, images=3, near=near), queries, scored=True)
    for left, right in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(left, right)


def test_few_groups_are_compared_in_double(make_device: MakeDevice) -> None:
    """The bounds are lower bounds, and so narrow that they rule out nearly all of a bank."""
    rng, device = np.random.default_rng(5), make_device(False)
    bank, queries = _floats(rng.normal(size=(1024, 32)) + 30.0), _floats(rng.normal(size=(1, 60, 32)) + 30.0)
    search = CudaBankSearch(device, bank, cells=60)
    _, distances, _ = _run(device, search, queries)
    lowest = np.empty((60, 32), np.float32)
    device.copy_out(lowest, search._params.lowest)
    centre = np.empty(32, np.float32)
    device.copy_out(centre, search._params.centre)
    device.synchronize()
    lengths = np.square(queries[0] - centre.astype(np.float64)).sum(axis=1)
    # Group g of a tile: 16 vectors from 64 * (g / 2) + 16 * (g % 2) on, and 16 that lie 32 behind.
    squares = np.square(bank.astype(np.float64) - queries[0, :, None]).sum(axis=2)
    exact = squares.reshape(60, 8, 2, 2, 2, 16).min(axis=(3, 5)).reshape(60, 32)
    slack = exact - (lowest + lengths[:, None])
    assert (slack > 0).all()
    assert slack.max() < 4 * (32 + 64) * 2.0**-23 * (lengths.max() + 200)
    reach = np.square(distances[0].astype(np.float64)) - (1 - search._params.margin) * lengths
    assert np.count_nonzero(lowest <= reach[:, None]) < 1.2 * 60


def test_what_does_not_fit_is_refused(make_device: MakeDevice) -> None:
    device, bank = make_device(False), np.ones((4, 3), np.float32)
    with pytest.raises(UsageError, match=r"bank is float64 \(4, 3\)"):
        CudaBankSearch(device, bank.astype(np.float64), cells=1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0 vectors of 3 values"):
        CudaBankSearch(device, bank[:0], cells=1)
    with pytest.raises(UsageError, match="2 images of 0 queries"):
        CudaBankSearch(device, bank, cells=0, images=2)
    bad = bank.copy()
    bad[2, 1] = np.inf
    with pytest.raises(UsageError, match="vector 2 of the bank holds inf"):
        CudaBankSearch(device, bad, cells=1)
    near = np.zeros((4, 2), np.int32)
    with pytest.raises(UsageError, match=r"near is int64 \(4, 2\)"):
        CudaBankSearch(device, bank, cells=1, near=near.astype(np.int64))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="65 neighbours"):
        CudaBankSearch(device, bank, cells=1, near=np.zeros((4, 65), np.int32))
    for given, score in ((None, 1), (near, 0)):
        with pytest.raises(UsageError, match="gives a score exactly where"):
            CudaBankSearch(device, bank, cells=1, near=given).enqueue(1, 1, score)
    near[3, 1] = 4
    with pytest.raises(UsageError, match=r"a neighbour of vector 3 is 4, the bank has 0 \.\. 3"):
        CudaBankSearch(device, bank, cells=1, near=near)
