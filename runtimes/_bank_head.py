"""The search for the nearest vectors of a bank behind a query graph, in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead._native.bank_search import BankSearch as NativeSearch
from edgead.bundle.head import FILE, BankSearch
from edgead.errors import EngineError
from edgead.runtimes._base import RawOutput
from edgead.runtimes._device_engine import DeviceEngine, DeviceTensor
from edgead.runtimes._graph import MAP, SCORE, GraphOutputs
from edgead.runtimes._head import bank_problems, check_shapes, read_beside, searched_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.runtimes.cuda._device import Device

QUERY = "query"


class BankOutputs(GraphOutputs):
    """Patch vectors of a graph, and the distances that the search finds for them.

    ``head.json`` beside the graph says what to search; see `SearchedOutputs`.
    """

    def __init__(self, graph: Path) -> None:
        """Read the head of `graph`; bank and neighbours are mapped.

        Raises:
            UsageError: there is no ``head.json`` beside the graph, or no bank above it.
            EngineError: ``head.json`` is damaged, or what it names is of another size.
        """
        import numpy as np

        self._head = head = read_beside(graph, BankSearch)
        files = searched_files(head, graph)
        self._cells = head.grid[0] * head.grid[1]
        self._shapes = {QUERY: (1, self._cells, head.dim)}
        bank = np.memmap(files[head.bank_file], "<f4", "r", shape=(head.vectors, head.dim))
        self._bank: npt.NDArray[np.float32] = np.asarray(bank)
        self._near: npt.NDArray[np.int32] | None = None
        if head.neighbours:
            shape = (head.vectors, head.neighbours)
            self._near = np.asarray(np.memmap(files[head.neighbours_file], "<i4", "r", shape=shape))

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
        """Keep the array that the engine writes, make libedgead's search and the arrays that it fills."""
        import numpy as np

        query: Any = arrays[QUERY]
        check_shapes(graph, {QUERY: query.shape}, self._shapes)
        with bank_problems(graph):
            self._search = NativeSearch(self._bank, queries=self._cells, near=self._near)
        self._found = np.zeros(self._cells, np.int32)
        self._query: npt.NDArray[np.float32] = query
        self._map = np.zeros((1, 1, *self._head.grid), np.float32)
        self._score = np.zeros(1, np.float32) if self._head.neighbours else None
        return RawOutput(self._map, self._score)

    def on_device(self, graph: Path, engine: DeviceEngine, device: Device) -> DeviceEngine:
        """The CUDA search behind it."""
        from edgead.runtimes.cuda.bank_search import CudaBankSearch
        from edgead.runtimes.cuda.searched_engine import SearchedEngine

        check_shapes(graph, {QUERY: engine.outputs[QUERY].shape}, self._shapes)
        with bank_problems(graph):
            search = CudaBankSearch(device, self._bank, cells=self._cells, near=self._near)
        outputs = {MAP: DeviceTensor((1, 1, *self._head.grid), "float32")}
        if self._near is not None:
            outputs[SCORE] = DeviceTensor((1,), "float32")
        return SearchedEngine(
            engine,
            device,
            outputs,
            lambda queries, found: search.enqueue(queries[QUERY], found[MAP], found.get(SCORE, 0)),
        )

    def finish(self) -> None:
        """Search."""
        self._search.run(self._query, indices=self._found, distances=self._map.reshape(-1), score=self._score)
