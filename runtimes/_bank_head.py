"""The search for the nearest vectors of a bank behind a query graph, in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead._native.bank_search import BankSearch as NativeSearch
from edgead.bundle.head import FILE, BankSearch
from edgead.errors import EngineError, UsageError
from edgead.runtimes._base import RawOutput
from edgead.runtimes._graph import GraphOutputs
from edgead.runtimes._head import read_beside, searched_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

QUERY = "query"


class BankOutputs(GraphOutputs):
    """Patch vectors of a graph, and the distances that the search finds for them.

    ``head.json`` beside the graph says what to search; see `SearchedOutputs`.
    """

    def __init__(self, graph: Path) -> None:
        """Read the head of `graph`.

        Raises:
            UsageError: there is no ``head.json`` beside the graph, or no bank above it.
            EngineError: ``head.json`` or what it names is damaged.
        """
        import numpy as np

        self._head = head = read_beside(graph, BankSearch)
        files = searched_files(head, graph)
        count = head.grid[0] * head.grid[1]
        self._shape = (1, count, head.dim)
        self._found = np.zeros(count, np.int32)
        bank = np.memmap(files[head.bank_file], "<f4", "r", shape=(head.vectors, head.dim))
        near = None
        if head.neighbours:
            shape = (head.vectors, head.neighbours)
            near = np.asarray(np.memmap(files[head.neighbours_file], "<i4", "r", shape=shape))
        try:
            self._search = NativeSearch(np.asarray(bank), queries=count, near=near)
        except UsageError as err:
            raise EngineError(f"{graph.name}: {err}; export the MODEL again") from err

    def check(self, graph: Path, names: Sequence[str]) -> tuple[str, ...]:
        """The one that the head asks for."""
        if tuple(names) != (QUERY,):
            raise EngineError(
                f"{graph.name}: outputs are {', '.join(names)}; {FILE} asks for {QUERY}; export the "
                "MODEL again"
            )
        return (QUERY,)

    def dtype(self, name: str) -> str:
        """float32."""
        return "float32"

    def bind(self, graph: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> RawOutput:
        """Keep the array that the engine writes, and make those for the map and the score."""
        import numpy as np

        query: Any = arrays[QUERY]
        if query.shape != self._shape:
            raise EngineError(
                f"{graph.name}: output {QUERY} is {list(query.shape)}, {FILE} says {list(self._shape)}; "
                "export the MODEL again"
            )
        self._query: npt.NDArray[np.float32] = query
        self._map = np.zeros((1, 1, *self._head.grid), np.float32)
        self._score = np.zeros(1, np.float32) if self._head.neighbours else None
        return RawOutput(self._map, self._score)

    def finish(self) -> None:
        """Search."""
        self._search.run(self._query, indices=self._found, distances=self._map.reshape(-1), score=self._score)
