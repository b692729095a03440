"""The head behind a query graph, in Python: which bank, and the search over it, libedgead's or a GPU's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgead._native.window_search import WindowSearch as NativeSearch
from edgead.bundle.head import FILE, BankSearch, WindowSearch
from edgead.errors import BundleError, EngineError, UsageError
from edgead.runtimes._base import RawOutput
from edgead.runtimes._device_engine import DeviceEngine, DeviceTensor
from edgead.runtimes._graph import MAP, GraphOutputs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.runtimes.cuda._device import Device

_Kind = TypeVar("_Kind", WindowSearch, BankSearch)

REFERENCES, WEIGHT = "references", "weight"

_DTYPES = {"fp32": "<f4", "fp16": "<f2", "int8": "i1"}


def query_shapes(head: WindowSearch) -> dict[str, tuple[int, ...]]:
    """The query graph's outputs: name → shape; all float32, but ``references`` is int32."""
    shapes: dict[str, tuple[int, ...]] = {
        f"query_{index}": (1, head.dim, level.height, level.width) for index, level in enumerate(head.levels)
    }
    shapes[REFERENCES] = (1, head.nearest)
    if head.weighted:
        shapes[WEIGHT] = (1, 1, head.levels[0].height, head.levels[0].width)
    return shapes


class SearchedOutputs(GraphOutputs):
    """Query tensors of a graph, and the map that the search makes of them.

    ``head.json`` beside the graph says what to search. It has the names of bank files in the bundle, whose
    root is the nearest folder above the graph where they lie.
    """

    def __init__(self, graph: Path) -> None:
        """Read the head of `graph`; the bank files are mapped.

        Raises:
            UsageError: there is no ``head.json`` beside the graph, or no bank above it.
            EngineError: ``head.json`` is damaged, or a bank is of another size.
        """
        self._head = read_beside(graph, WindowSearch)
        self._banks = _mapped(self._head, graph)
        self._windows = [level.window for level in self._head.levels]

    def check(self, graph: Path, names: Sequence[str]) -> tuple[str, ...]:
        """The names that the head asks for."""
        wanted = tuple(query_shapes(self._head))
        if set(names) != set(wanted):
            raise EngineError(
                f"{graph.name}: outputs are {', '.join(names)}; {FILE} asks for {', '.join(wanted)}; export "
                "the MODEL again"
            )
        return wanted

    def dtype(self, name: str) -> str:
        """float32, and int32 for the indices."""
        return "int32" if name == REFERENCES else "float32"

    def bind(self, graph: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> RawOutput:
        """Keep the arrays that the engine writes, make libedgead's search and the array for the map."""
        import numpy as np

        head = self._head
        check_shapes(graph, {name: array.shape for name, array in arrays.items()}, query_shapes(head))
        with bank_problems(graph):
            self._search = NativeSearch(
                self._banks, self._windows, nearest=head.nearest, grid=head.grid, weighted=head.weighted
            )
        self._arrays = dict(arrays)
        self._output = RawOutput(np.zeros((1, 1, *head.grid), np.float32))
        return self._output

    def on_device(self, graph: Path, engine: DeviceEngine, device: Device) -> DeviceEngine:
        """The CUDA search behind it."""
        from edgead.runtimes.cuda.searched_engine import SearchedEngine
        from edgead.runtimes.cuda.window_search import CudaWindowSearch

        head = self._head
        check_shapes(
            graph, {name: tensor.shape for name, tensor in engine.outputs.items()}, query_shapes(head)
        )
        with bank_problems(graph):
            search = CudaWindowSearch(
                device,
                self._banks,
                self._windows,
                nearest=head.nearest,
                grid=head.grid,
                weighted=head.weighted,
            )

        def enqueue(queries: Mapping[str, int], found: Mapping[str, int]) -> None:
            levels = [queries[f"query_{index}"] for index in range(len(head.levels))]
            search.enqueue(levels, queries[REFERENCES], found[MAP], queries.get(WEIGHT, 0))

        outputs = {MAP: DeviceTensor((1, 1, *head.grid), "float32")}
        return SearchedEngine(engine, device, outputs, enqueue, search.check)

    def finish(self) -> None:
        """Search."""
        arrays = self._arrays
        queries = [arrays[f"query_{index}"] for index in range(len(self._head.levels))]
        self._search.run(
            queries,  # type: ignore[arg-type]  # of the type that `dtype` gave
            arrays[REFERENCES],  # type: ignore[arg-type]
            arrays.get(WEIGHT),  # type: ignore[arg-type]
            out=self._output.anomaly_map[0, 0],
        )


def read_beside(graph: Path, kind: type[_Kind]) -> _Kind:
    """The ``head.json`` beside `graph`.

    Raises:
        UsageError: there is none.
        EngineError: it is damaged.
    """
    path = graph.with_name(FILE)
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist: {graph.name} stops at query tensors, and {FILE} says what to search"
        )
    try:
        return kind.read(path)
    except (BundleError, OSError) as err:
        raise EngineError(f"{path} cannot be read: {err}") from err


def searched_files(head: WindowSearch | BankSearch, graph: Path) -> dict[str, Path]:
    """Where the files that `head` names lie: in the nearest folder above `graph` that has them all.

    Raises:
        UsageError: no folder has.
        EngineError: one is of another size than its shape.
    """
    sizes = head.file_sizes()
    folders = graph.absolute().parents
    root = next((folder for folder in folders if all((folder / name).is_file() for name in sizes)), None)
    if root is None:
        raise UsageError(f"{', '.join(sizes)}: not all lie in one folder above {graph}; {FILE} names them")
    for name, size in sizes.items():
        if (found := (root / name).stat().st_size) != size:
            raise EngineError(f"{root / name} has {found:,} bytes, its shape asks for {size:,}")
    return {name: root / name for name in sizes}


def check_shapes(
    graph: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Whether the query tensors of `graph` are those that its head asks for.

    Raises:
        EngineError: one is of another shape, or of more than one image.
    """
    for name, shape in wanted.items():
        if found[name] != shape:
            raise EngineError(
                f"{graph.name}: output {name} is {list(found[name])}, {FILE} says {list(shape)}; export the "
                "MODEL again"
            )


@contextlib.contextmanager
def bank_problems(graph: Path) -> Iterator[None]:
    """What a search says of its bank is the MODEL's fault here.

    Raises:
        EngineError: in place of a UsageError.
    """
    try:
        yield
    except UsageError as err:
        raise EngineError(f"{graph.name}: {err}; export the MODEL again") from err


def _mapped(head: WindowSearch, graph: Path) -> list[npt.NDArray[np.generic]]:
    """The bank of each level, mapped, not read.

    Raises:
        UsageError: they are in no folder above the graph.
        EngineError: one is of another size.
    """
    import numpy as np

    files = searched_files(head, graph)
    banks: list[npt.NDArray[np.generic]] = []
    for level in head.levels:
        shape = head.bank_shape(level)
        mapped = np.memmap(files[level.bank_file], _DTYPES[head.bank_type], "r", shape=shape)
        banks.append(np.asarray(mapped))
    return banks
