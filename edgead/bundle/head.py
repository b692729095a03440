"""A target's `head`: what libedgead does behind an engine that stops at query tensors (DESIGN §4 «Head»)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgead.bundle import _codec
from edgead.errors import BundleError

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgead.bundle.manifest import Manifest, TargetEntry

BankType = Literal["fp32", "fp16", "int8"]

WINDOW_SEARCH, BANK_SEARCH = "+window_search", "+bank_search"
SUFFIXES = (WINDOW_SEARCH, BANK_SEARCH)
"""What an engine's name ends with where a search follows it."""

FILE = "head.json"
"""The manifest's `head` again, beside the query graph: for who is given the graph alone."""

_MAX_BYTES = 1 << 16  # of that file
_VALUE_BYTES: dict[BankType, int] = {"fp32": 4, "fp16": 2, "int8": 1}
# As window_search_plan.hpp has them.
MAX_REFERENCES, MAX_DIM, MAX_SIDE, MAX_WINDOW, MAX_LEVELS = 1 << 20, 4096, 1 << 15, 7, 8
MAX_BANK_BYTES = 1 << 36
# As bank_search_plan.hpp has them.
MAX_VECTORS, MAX_QUERIES, MAX_NEIGHBOURS = 1 << 26, 1 << 20, 64


class _Head:
    """Reading and writing, as every head does it."""

    @classmethod
    def from_values(cls, values: object, source: str) -> Self:
        """Read parsed JSON; `source` names it in messages.

        Raises:
            BundleError: a field is missing, of another type or out of range.
        """
        head = _codec.decode(cls, values, source)
        if problem := next(head.problems(), None):
            raise BundleError(f"{source}: {problem}")
        return head

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a `FILE`.

        Raises:
            BundleError: it is not what `write` writes.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        return cls.from_values(_codec.parse(data, path.name, _MAX_BYTES), path.name)

    def write(self, path: Path) -> None:
        """Write a `FILE`.

        Raises:
            OSError: no room or no permission.
        """
        path.write_bytes(_codec.dump(self))

    def to_values(self) -> dict[str, object]:
        """What `TargetEntry.head` holds."""
        return _codec.to_values(self)

    def file_sizes(self) -> dict[str, int]:
        """What is searched: names in the bundle, and the bytes that each must have."""
        raise NotImplementedError

    def problems(self) -> Iterator[str]:
        """What is out of range."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLevel:
    """One size of query.

    Attributes:
        height: rows of the query and of each reference, cells.
        width: columns of them.
        window: side of the window in which a reference may lie off: odd, 1 to 7.
        bank_file: raw (references, height, dim, width), little-endian; a name in the bundle.
    """

    height: int
    width: int
    window: int
    bank_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSearch(_Head):
    """A windowed search over a bank of references; `edgead.h` says what it computes.

    Attributes:
        references: N, how many the bank holds.
        nearest: K, how many the graph names for each image.
        dim: D, values of a descriptor.
        bank_type: fp32, fp16, or int8 = round(127·v); each descriptor has length 1.
        levels: the first is the finest; the others' maps are interpolated to its size.
        grid: (h, w) of the map, as the bundle's graph gives it.
        weighted: whether the graph gives a weight that the map is multiplied by.
    """

    kind: Literal["window_search"] = "window_search"
    references: int
    nearest: int
    dim: int
    bank_type: BankType
    levels: tuple[SearchLevel, ...]
    grid: tuple[int, int]
    weighted: bool

    def bank_bytes(self, level: SearchLevel) -> int:
        """Size of the level's bank file."""
        cells = level.height * level.width
        return self.references * self.dim * cells * _VALUE_BYTES[self.bank_type]

    def bank_shape(self, level: SearchLevel) -> tuple[int, int, int, int]:
        """(references, height, dim, width)."""
        return self.references, level.height, self.dim, level.width

    def file_sizes(self) -> dict[str, int]:
        """The levels' banks."""
        return {level.bank_file: self.bank_bytes(level) for level in self.levels}

    def problems(self) -> Iterator[str]:
        """What is out of range."""
        if not 1 <= self.references <= MAX_REFERENCES:
            yield f"{self.references} references, must be 1 to {MAX_REFERENCES}"
        if not 1 <= self.nearest <= self.references:
            yield f"nearest is {self.nearest} of {self.references} references"
        if not 1 <= self.dim <= MAX_DIM:
            yield f"dim is {self.dim}, must be 1 to {MAX_DIM}"
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            yield f"{len(self.levels)} levels, must be 1 to {MAX_LEVELS}"
        if not all(1 <= side <= MAX_SIDE for side in self.grid):
            yield f"grid is {self.grid[0]}x{self.grid[1]}, must be 1 to {MAX_SIDE} a side"
        for index, level in enumerate(self.levels):
            if not (1 <= level.height <= MAX_SIDE and 1 <= level.width <= MAX_SIDE):
                yield f"level {index} is {level.height}x{level.width}, must be 1 to {MAX_SIDE} a side"
            if level.window % 2 == 0 or not 1 <= level.window <= MAX_WINDOW:
                yield f"level {index} has a window of {level.window}, must be odd, 1 to {MAX_WINDOW}"
            if self.bank_bytes(level) > MAX_BANK_BYTES:
                yield f"the bank {level.bank_file!r} is larger than 64 GiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSearch(_Head):
    """The nearest vector of a bank for each cell of the grid; `edgead.h` says what it computes.

    Attributes:
        vectors: N, in the bank.
        dim: D, values of a vector.
        bank_file: raw (N, D) float32, little-endian; a name in the bundle.
        grid: (h, w) of the map, as the bundle's graph gives it.
        neighbours: K, how many vectors of the bank weigh the score; 0 = there is no image_score.
        neighbours_file: raw (N, K) int32, little-endian, those nearest to each vector, itself first; empty
            without neighbours.
    """

    kind: Literal["bank_search"] = "bank_search"
    vectors: int
    dim: int
    bank_file: str
    grid: tuple[int, int]
    neighbours: int
    neighbours_file: str

    def file_sizes(self) -> dict[str, int]:
        """The bank, and the neighbours where there are any."""
        found = {self.bank_file: 4 * self.vectors * self.dim}
        return found | ({self.neighbours_file: 4 * self.vectors * self.neighbours} if self.neighbours else {})

    def problems(self) -> Iterator[str]:
        """What is out of range."""
        if not 1 <= self.vectors <= MAX_VECTORS:
            yield f"{self.vectors} vectors, must be 1 to {MAX_VECTORS}"
        if not 1 <= self.dim <= MAX_DIM:
            yield f"dim is {self.dim}, must be 1 to {MAX_DIM}"
        if not 0 <= self.neighbours <= min(MAX_NEIGHBOURS, self.vectors):
            yield f"{self.neighbours} neighbours of {self.vectors} vectors, must be 0 to {MAX_NEIGHBOURS}"
        if not all(1 <= side <= MAX_SIDE for side in self.grid) or self.grid[0] * self.grid[1] > MAX_QUERIES:
            yield f"grid is {self.grid[0]}x{self.grid[1]}, must have 1 to {MAX_QUERIES} cells"
        if 4 * self.vectors * self.dim > MAX_BANK_BYTES:
            yield f"the bank {self.bank_file!r} is larger than 64 GiB"


def head_of(engine: str, values: object, source: str) -> WindowSearch | BankSearch | None:
    """The head that an engine's name asks for, read from JSON `values`; None where it asks for none.

    Raises:
        BundleError: there is none, or not one that this edgead reads.
    """
    kinds: dict[str, Any] = {WINDOW_SEARCH: WindowSearch, BANK_SEARCH: BankSearch}
    for suffix, kind in kinds.items():
        if engine.endswith(suffix):
            found: WindowSearch | BankSearch = kind.from_values(values, source)
            return found
    return None


def target_problems(entry: TargetEntry, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the head of a target whose engine's name asks for one; other heads are not known."""
    try:
        head = entry.search
    except BundleError as err:
        yield str(err)
        return
    if head is None:
        return
    for name in head.file_sizes():
        if name not in entry.files or name == entry.main_file:
            yield f"head: bank_file {name!r} is not among its files"
    if head.grid != manifest.graph.map_grid:
        yield f"head: grid is {head.grid}, that of graph is {manifest.graph.map_grid}"
    batch, post = manifest.graph.input.shape[0], manifest.post
    scored = isinstance(head, BankSearch) and head.neighbours > 0
    if batch != 1 or post.channels != 1 or (post.score_rule == "graph") != scored:
        makes = "an image_score" if scored else "no image_score"
        yield (
            f"head: a {head.kind} makes one map of one image and {makes}, the graph has a batch of "
            f"{batch}, {post.channels} channels and the score rule {post.score_rule!r}"
        )
