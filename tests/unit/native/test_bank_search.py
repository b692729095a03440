"""The bank search on features of real images, against brute force in float64; what its binding refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from edgead._native import _library
from edgead._native.bank_search import BankSearch
from edgead.backbones import _base as backbones
from edgead.backbones._weights import load_weights
from edgead.errors import UsageError

MASKS = (
    0,
    _library.CPU_AVX2,
    _library.CPU_AVX2 | _library.CPU_AVX512,
    _library.ALL_CPU_FEATURES,
)
Floats = npt.NDArray[np.float32]


def features(paths: list[Path]) -> Floats:
    """(images · 1024, 152): EfficientNet-Lite0 at strides 8 and 16."""
    network = backbones.build("efficientnet_lite0", ("stage3", "stage5"))
    load_weights(network, "efficientnet_lite0")
    rows = []
    for path in paths:
        image = cv2.resize(cv2.imread(str(path)), (256, 256), interpolation=cv2.INTER_AREA)[..., ::-1].copy()
        fine, coarse = network(network.normalise(torch.from_numpy(image)[None]))
        both = torch.cat([fine, F.interpolate(coarse, size=fine.shape[2:], mode="bilinear")], dim=1)
        rows.append(both[0].flatten(1).T)
    return np.ascontiguousarray(torch.cat(rows).numpy())


def run(search: BankSearch, queries: Floats) -> tuple[npt.NDArray[np.int32], Floats]:
    indices, distances = np.empty(len(queries), np.int32), np.empty(len(queries), np.float32)
    search.run(queries, indices=indices, distances=distances)
    return indices, distances


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "defect"), [("bottle", "broken_large"), ("magnetic_tile", "blowhole")])
def test_real_features_have_the_neighbour_that_brute_force_finds(
    name: str, defect: str, request: pytest.FixtureRequest
) -> None:
    data: Path = request.getfixturevalue(name)
    bank = features(sorted((data / "train" / "good").iterdir())[:6])
    defects = features(sorted((data / "test").glob(f"{defect}/*"))[:2])
    far = defects[::16] * np.float32(1e4)
    for queries in (defects, far):
        exact = np.empty(len(queries))
        for index, query in enumerate(queries.astype(np.float64)):
            exact[index] = np.square(bank - query).sum(1).min()
        for mask in MASKS:
            found, distances = run(BankSearch(bank, queries=len(queries), threads=2, cpu_mask=mask), queries)
            own = np.square(bank[found].astype(np.float64) - queries).sum(1)
            assert np.count_nonzero(own > exact * (1 + 1e-13)) == 0
            np.testing.assert_allclose(distances, np.sqrt(exact), rtol=1e-6)


def test_fewer_queries_than_the_search_was_made_for() -> None:
    random = np.random.default_rng(0)
    bank = random.normal(size=(70, 5)).astype(np.float32)
    search = BankSearch(bank, queries=50)
    for count in (50, 1, 7, 50):
        found, distances = run(search, np.ascontiguousarray(bank[:count]))
        assert found.tolist() == list(range(count))
        assert not distances.any()


def test_what_does_not_fit_is_refused() -> None:
    bank = np.ones((4, 3), np.float32)
    with pytest.raises(UsageError, match="must be C-contiguous float32"):
        BankSearch(bank.astype(np.float64), queries=1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="holds inf"):
        BankSearch(bank * np.float32(np.inf), queries=1)
    search = BankSearch(bank, queries=2)
    with pytest.raises(UsageError, match="do not fit each other"):
        run(search, np.ones((2, 4), np.float32))
    with pytest.raises(UsageError, match="3 queries, the search was made for 2"):
        run(search, np.ones((3, 3), np.float32))
