"""The fp16 form of a float graph: what multiplies, in half precision by explicit casts; the rest as it was.

An engine that takes types as they stand (TensorRT, ONNX Runtime's CUDA provider) computes exactly this, and
any other runs it, too, so that it can be checked without a GPU.

In half precision: convolutions and matrix products, and what lies between two of them. In float32: pixels and
what is done to them before the first product, differences, squares, roots, norms, softmax, logarithms,
rankings, everything behind the last product, layers that the detector's INT8 recipe keeps, and constants that
16 bits would spoil. Between the two a value is cast once, where it is read.

onnxruntime.transformers.float16 was looked at first: it leaves a node in float32 by casting its result to
half and back, which rounds between two such nodes, and puts constants below 6e-8, such as the 1e-8 that keeps
a quotient finite, at 6e-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import InternalError
from edgead.exporters._onnx_file import save
from edgead.exporters._qdq import Int8Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
# In half precision between products; one with two inputs that are no constants only where both are half.
_POINTWISE = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Add", "Mul"}
# These move or choose values: they stay in the type that their input has.
_MOVES = {
    "Reshape", "Transpose", "Slice", "Split", "Concat", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Expand",
    "Pad", "Resize", "AveragePool", "MaxPool",
}  # fmt: skip
# Scales of a Resize are float32 whatever it resizes.
_DATA_INPUTS = {"Resize": 1}
# Largest error of a constant tensor in half precision, root mean square, relative to the tensor.
_CONSTANT_ERROR = 1e-3


def half(graph: Path, recipe: Int8Recipe, folder: Path) -> Path:
    """Write the fp16 form of `graph` as ``<folder>/<stem>.fp16.onnx``; inputs and outputs keep their types.

    Args:
        graph: float graph, its external data beside it.
        recipe: the detector's; its `keep_float` stays in float32.
        folder: where to write; is there.

    Raises:
        InternalError: nothing is left to compute in half precision.
        OutputError: the file cannot be written.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    writer = _Writer(model.graph, recipe)
    if not writer.half:
        raise InternalError(f"{graph.name}: no product is left to compute in half precision")
    writer.write()
    path = folder / f"{graph.stem}.fp16.onnx"
    save(model, path)
    return path


class _Writer:
    """Changes one graph in place.

    Attributes:
        half: names of the nodes that compute in half precision.
        types: tensor to its ONNX element type.
        constants: initialiser by its name.
    """

    def __init__(self, graph: Any, recipe: Int8Recipe) -> None:
        import onnx

        self.graph, self.recipe = graph, recipe
        self.float, self.float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        self.types = {
            entry.name: entry.type.tensor_type.elem_type
            for entry in (*graph.input, *graph.value_info, *graph.output)
        }
        self.constants = {entry.name: entry for entry in graph.initializer}
        self.types |= {name: entry.data_type for name, entry in self.constants.items()}
        self.half = self._choose()

    def _choose(self) -> set[str]:
        products = {node.name for node in self.graph.node if self._is_product(node)}
        before = self._upstream(products)
        chosen: set[str] = set()
        halves: set[str] = set()
        for node in self.graph.node:
            values = [
                name for _, name in self._data(node) if name not in self.constants and self._is_float(name)
            ]
            all_half = bool(values) and halves.issuperset(values)
            if node.name in products:
                take = True
            elif node.name not in before or not self._fits(node):
                take = False
            elif node.op_type in _MOVES:
                take = all_half
            else:
                take = node.op_type in _POINTWISE and (all_half or self._reached(node, values))
            if take:
                chosen.add(node.name)
                halves.update(name for name in node.output if self._is_float(name))
        return chosen

    def _reached(self, node: Any, values: Sequence[str]) -> bool:
        """Whether a pointwise node on one value has a product before it: pixels stay as they are."""
        return len(values) == 1 and values[0] in self.behind

    def _is_product(self, node: Any) -> bool:
        if node.op_type not in _PRODUCTS or self.recipe.needs_float(node.name):
            return False
        return self._fits(node) and not self._only_moved(node.output[0])

    def _only_moved(self, tensor: str) -> bool:
        """Whether a tensor, moved at most, is a map or a score: those have all their bits."""
        outputs = {entry.name for entry in self.graph.output}
        waiting = [tensor]
        while waiting:
            name = waiting.pop()
            if name in outputs:
                return True
            waiting += [
                out for node in self.graph.node if node.op_type in _MOVES and name in node.input
                for out in node.output
            ]  # fmt: skip
        return False

    def _upstream(self, products: set[str]) -> set[str]:
        """Names of the nodes that a product reads, however far; notes in `behind` what a product gives."""
        needed: set[str] = set()
        before: set[str] = set()
        for node in reversed(self.graph.node):
            if needed.intersection(node.output):
                before.add(node.name)
            if node.name in products or node.name in before:
                needed.update(node.input)
        self.behind: set[str] = set()
        for node in self.graph.node:
            if node.name in products or self.behind.intersection(node.input):
                self.behind.update(node.output)
        return before

    def _fits(self, node: Any) -> bool:
        """Whether half precision keeps the node's constants."""
        from onnx import numpy_helper

        return all(
            _half_error(numpy_helper.to_array(self.constants[name])) <= _CONSTANT_ERROR
            for _, name in self._data(node)
            if name in self.constants and self._is_float(name)
        )

    def _data(self, node: Any) -> Iterator[tuple[int, str]]:
        """(place, name) of the inputs that have the type that the node computes in."""
        for place, name in enumerate(node.input):
            if name and place < _DATA_INPUTS.get(node.op_type, len(node.input)):
                yield place, name

    def _is_float(self, name: str) -> bool:
        return bool(self.types.get(name) == self.float)

    def write(self) -> None:
        """Cast, where a value is read in the type in which it was not made."""
        halves = {
            name for node in self.graph.node if node.name in self.half for name in node.output
            if self._is_float(name)
        }  # fmt: skip
        outputs = {entry.name for entry in self.graph.output} & halves
        cast: dict[str, str] = {}
        nodes: list[Any] = []
        for node in self.graph.node:
            in_half = node.name in self.half
            for place, name in self._data(node):
                if not self._is_float(name) or (name in halves) == in_half:
                    continue
                if name not in cast:
                    cast[name] = self._cast(name, in_half, nodes)
                if cast[name] != name:
                    node.input[place] = cast[name]
            nodes.append(node)
        assert not outputs, "what gives an output stays in float32"
        copies = [type(node)() for node in nodes]
        for copy, node in zip(copies, nodes, strict=True):
            copy.CopyFrom(node)
        del self.graph.node[:]
        self.graph.node.extend(copies)
        del self.graph.value_info[:]
        read = {name for node in self.graph.node for name in node.input}
        kept = [entry for entry in self.graph.initializer if entry.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _cast(self, name: str, to_half: bool, nodes: list[Any]) -> str:
        """Name of `name` in the other type: a constant of its own, or a Cast behind what made it."""
        import numpy as np
        from onnx import helper, numpy_helper

        other = f"{name}.half" if to_half else f"{name}.float"
        if name in self.constants:
            values = numpy_helper.to_array(self.constants[name]).astype(np.float16)
            self.graph.initializer.append(numpy_helper.from_array(values, other))
        else:
            kind = self.float16 if to_half else self.float
            nodes.append(helper.make_node("Cast", [name], [other], to=kind, name=f"{other}/Cast"))
        return other


def _half_error(values: npt.NDArray[np.float32]) -> float:
    """Root mean square error of `values` in half precision, relative to theirs; inf where one overflows."""
    import numpy as np

    if values.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float64)
    size = float(np.sqrt(np.square(values, dtype=np.float64).mean()))
    error = float(np.sqrt(np.square(rounded - values).mean()))
    return error / size if size > 0 else 0.0
