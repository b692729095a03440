"""Files of a search beside graph.onnx: lowerings write them, exporters of `…_search` engines read them.

They lie where the bundle will have them: ``heads/window_search/`` holds ``query.onnx`` (the graph up to the
query tensors), ``head.json`` and one bank per level; ``heads/bank_search/`` likewise one bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.bundle.head import BANK_SEARCH, FILE, BankSearch, BankType, SearchLevel, WindowSearch
from edgead.errors import BundleError, InternalError, OutputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FOLDER = "heads/window_search"
BANK_FOLDER = "heads/bank_search"
QUERY = "query.onnx"


def query_path(graph: Path, folder: str = FOLDER) -> Path:
    """Where the query graph of `graph` (graph.onnx) is to be written; its folder is made.

    Raises:
        OutputError: the folder cannot be made.
    """
    path = graph.parent / folder / QUERY
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make {path.parent}: {err}") from err
    return path


def write_head(
    graph: Path,
    banks: Sequence[npt.NDArray[np.float32]],
    windows: Sequence[int],
    *,
    nearest: int,
    grid: tuple[int, int],
    weighted: bool,
    bank_type: BankType = "fp32",
) -> WindowSearch:
    """Write banks and ``head.json`` beside `graph`; ``query.onnx`` is the caller's, at `query_path`.

    Args:
        graph: graph.onnx.
        banks: for each level, the finest first, (references, dim, height, width), descriptors of length 1
            over dim; a memory map will do, one reference is held at a time.
        windows: for each level the side of the window, odd, 1 to 7.
        nearest: references that the query graph names for each image.
        grid: (h, w) of the map, the recipe's.
        weighted: whether the query graph gives a ``weight``.
        bank_type: how the values are stored.

    Returns:
        What ``head.json`` says.

    Raises:
        InternalError: banks that do not fit each other, or values that are no parts of unit vectors.
        OutputError: no room or no permission.
    """
    references, dim = banks[0].shape[:2]
    if len(banks) != len(windows) or any(bank.shape[:2] != (references, dim) for bank in banks):
        raise InternalError(
            f"banks of {[bank.shape for bank in banks]} with {len(windows)} windows do not fit"
        )
    levels = [
        SearchLevel(
            height=bank.shape[2], width=bank.shape[3], window=window, bank_file=f"{FOLDER}/level{index}.bin"
        )
        for index, (bank, window) in enumerate(zip(banks, windows, strict=True))
    ]
    head = WindowSearch(
        references=references,
        nearest=nearest,
        dim=dim,
        bank_type=bank_type,
        levels=tuple(levels),
        grid=grid,
        weighted=weighted,
    )
    if problem := next(head.problems(), None):
        raise InternalError(f"a head that no reader takes: {problem}")
    folder = query_path(graph).parent
    try:
        for level, bank in zip(levels, banks, strict=True):
            with (graph.parent / level.bank_file).open("wb") as file:
                for reference in bank:
                    file.write(_stored(reference, bank_type))
        head.write(folder / FILE)
    except OSError as err:
        raise OutputError(f"cannot write the search's bank to {folder}: {err}") from err
    return head


def write_bank_head(
    graph: Path,
    bank: npt.NDArray[np.float32],
    near: npt.NDArray[np.int64] | None,
    *,
    grid: tuple[int, int],
) -> BankSearch:
    """As `write_head`, of a search for the nearest vector of one bank.

    Args:
        graph: graph.onnx.
        bank: (N, D).
        near: (N, K), the neighbours that weigh the score; None = the graph has no image_score.
        grid: (h, w) of the map, the recipe's.

    Raises:
        InternalError: sizes that no reader takes.
        OutputError: no room or no permission.
    """
    count = 0 if near is None else near.shape[1]
    head = BankSearch(
        vectors=bank.shape[0],
        dim=bank.shape[1],
        bank_file=f"{BANK_FOLDER}/bank.f32",
        grid=grid,
        neighbours=count,
        neighbours_file=f"{BANK_FOLDER}/neighbours.i32" if count else "",
    )
    if problem := next(head.problems(), None):
        raise InternalError(f"a head that no reader takes: {problem}")
    folder = query_path(graph, BANK_FOLDER).parent
    try:
        bank.astype("<f4").tofile(graph.parent / head.bank_file)
        if near is not None:
            near.astype("<i4").tofile(graph.parent / head.neighbours_file)
        head.write(folder / FILE)
    except OSError as err:
        raise OutputError(f"cannot write the search's bank to {folder}: {err}") from err
    return head


def find_query(graph: Path, engine: str) -> Path:
    """The query graph beside `graph` (graph.onnx) for `engine` (``openvino+bank_search`` …).

    Raises:
        UsageError: the detector's lowering has written none.
    """
    kind = engine.partition("+")[2]
    query = graph.parent / "heads" / kind / QUERY
    if not query.is_file():
        raise UsageError(
            f"this detector has no {kind} head; choose a target without it, for instance openvino:fp32"
        )
    return query


def read_head(query: Path, engine: str) -> tuple[WindowSearch | BankSearch, tuple[Path, ...]]:
    """What `engine` searches behind `query` (a query graph, in float or in 8 bits): the head and its files.

    Raises:
        InternalError: what the lowering wrote is incomplete.
    """
    path = query.with_name(FILE)
    try:
        head = BankSearch.read(path) if engine.endswith(BANK_SEARCH) else WindowSearch.read(path)
    except (BundleError, OSError) as err:
        raise InternalError(f"{path} cannot be read: {err}") from err
    # File names of a head count from where graph.onnx lies, above heads/<kind>/.
    return head, tuple(query.parents[2] / name for name in head.file_sizes())


def copy_head(head: WindowSearch | BankSearch, folder: Path) -> Path:
    """Write ``head.json`` beside a compiled graph in `folder`.

    Raises:
        OutputError: no room or no permission.
    """
    try:
        head.write(folder / FILE)
    except OSError as err:
        raise OutputError(f"cannot write {folder / FILE}: {err}") from err
    return folder / FILE


def _stored(reference: npt.NDArray[np.float32], bank_type: BankType) -> bytes:
    """One reference (dim, height, width) as the bank holds it: (height, dim, width)."""
    import numpy as np

    rows = reference.transpose(1, 0, 2)
    if not (np.abs(rows) <= 1.001).all():
        raise InternalError("a reference has values that are no parts of unit vectors: normalise over dim")
    if bank_type == "int8":
        rows = np.rint(np.clip(rows, -1, 1) * np.float32(127))
    data: bytes = rows.astype({"fp32": "<f4", "fp16": "<f2", "int8": "i1"}[bank_type]).tobytes()
    return data
