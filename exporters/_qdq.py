"""8-bit encodings of a float graph: Q/DQ pairs where an engine computes in 8 bits, from one table of ranges.

What is quantised: convolutions and matrix products with constant weights, but those that the detector's
recipe keeps in float. Their input is quantised per tensor, their weights per output channel, symmetric, to
127 steps each way; sums between them read the same 8-bit values. What a MaxPool gives is rounded before the
pool, to the same result, so that 8-bit values are what it moves. The rest of the graph stays as it is: norms,
distances, other pools (OpenVINO 2026.4 gets the border of a padded AveragePool wrong inside a quantised
part), map arithmetic.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.calibration.int8 import Range
from edgead.errors import InternalError
from edgead.exporters._onnx_file import save

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Position of the constant weights is 1 in each; the value is the axis of the output channels.
_PRODUCTS = {"Conv": 0, "MatMul": 1, "Gemm": 0}
_ACTIVATIONS = {"Relu", "Clip"}
_PAIR = {"QuantizeLinear", "DequantizeLinear"}
_STEPS = 127
_BIAS_STEPS = 2.0**30


# Of a backbone on pixels: what comes before the third block of an EfficientNet-Lite0. Its first depthwise
# convolutions multiply channels that hardly move by weights of hundreds. In 8 bits these layers alone moved
# SimpleNet's map by 0.26, 0.12 and 0.09 of its deviation, all thirty behind them together by 0.10.
_EARLY = ("*_conv_stem/*", "*_blocks.0.*", "*_blocks.1.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Recipe:
    """What of a detector's graph stays in float from the beginning, and when repair has returned enough.

    Attributes:
        keep_float: patterns (``*`` for anything) of node names, ``<path of the module>/<operator>_<number>``,
            beside a backbone's first layers.
        map_error: largest error of an 8-bit engine's map that is left: root mean square as a share of the
            map's deviation. bf16 gave 0.09 for SimpleNet, which cost 0.2 points of AU-PRO; int8 at 0.12 cost
            0.6, at 0.5 more than 1.4.
    """

    keep_float: tuple[str, ...] = ()
    map_error: float = 0.1

    def keeps(self, name: str) -> bool:
        """Whether the node `name` stays in float."""
        return self.needs_float(name) or any(fnmatch.fnmatchcase(name, pattern) for pattern in _EARLY)

    def needs_float(self, name: str) -> bool:
        """Whether it does so for the detector's sake: 16 bits spoil it, too."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.keep_float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How an engine wants its 8 bits.

    Attributes:
        name: part of the file name, ``graph.qdq-<name>.onnx``.
        symmetric: activations signed with zero in the middle; else unsigned with any zero.
        outputs: whether results of products are quantised, too, with a bias of 32-bit integers: ONNX Runtime
            fuses nothing else, OpenVINO and TensorRT are better off without.
    """

    name: str
    symmetric: bool = False
    outputs: bool = False


OPENVINO = Encoding(name="openvino")
ONNXRUNTIME = Encoding(name="onnxruntime", outputs=True)
TENSORRT = Encoding(name="tensorrt", symmetric=True)


def products(graph: Any, recipe: Int8Recipe | None = None) -> list[Any]:
    """Nodes that may be quantised: products with constant weights, without what `recipe` keeps in float.

    What gives an output stays in float: 256 values are too few for a map.
    """
    constants = {entry.name: len(entry.dims) for entry in graph.initializer}
    outputs = {entry.name for entry in graph.output}
    return [
        node
        for node in graph.node
        if node.op_type in _PRODUCTS
        and node.input[1] in constants
        and node.input[0] not in constants
        and outputs.isdisjoint(node.output)
        and not (recipe and recipe.keeps(node.name))
        and _plain(node, constants[node.input[1]])
    ]


def observed(graph: Any) -> tuple[str, ...]:
    """Tensors that a table needs: inputs and results of every product that might be quantised, and sums."""
    names: dict[str, None] = {}
    for node in products(graph):
        names[node.input[0]] = None
        names[_result(graph, node)] = None
    for node in graph.node:
        if node.op_type == "Add":
            names[node.output[0]] = None
    return tuple(names)


def pixel_tensors(graph: Any) -> dict[str, Range]:
    """Tensors that are the image in another order or type: integers 0 … 255, which 8 bits hold exactly."""
    same = {graph.input[0].name}
    for node in graph.node:
        if node.op_type in {"Transpose", "Cast"} and node.input[0] in same:
            same.add(node.output[0])
    return {name: Range(0.0, 255.0) for name in same}


def layers(graph: Path, recipe: Int8Recipe) -> tuple[str, ...]:
    """Names of the nodes that `products` finds in a file.

    Raises:
        InternalError: there is none.
    """
    import onnx

    found = tuple(node.name for node in products(onnx.load(graph, load_external_data=False).graph, recipe))
    if not found:
        raise InternalError(f"{graph.name}: no product with constant weights is left to quantise")
    return found


def leaves_products(graph: Path, chosen: Collection[str]) -> bool:
    """Whether a convolution or a matrix product, be its weights constant or not, is not among `chosen`."""
    import onnx

    nodes = onnx.load(graph, load_external_data=False).graph.node
    return any(node.op_type in (*_PRODUCTS, "ConvTranspose") and node.name not in chosen for node in nodes)


def encode(graph: Path, ranges: Mapping[str, Range], chosen: Collection[str], encoding: Encoding) -> Path:
    """Write the graph with Q/DQ pairs beside `graph`, as ``<stem>.qdq-<encoding>.onnx``.

    Args:
        graph: float graph, its external data beside it.
        ranges: of a calibration table.
        chosen: nodes to compute in 8 bits, some of `layers`.
        encoding: the engine's.

    Raises:
        InternalError: the table lacks a tensor, or nothing is chosen.
        OutputError: the file cannot be written.
    """
    import onnx

    model = onnx.load(graph)
    names = frozenset(chosen)
    nodes = [node for node in model.graph.node if node.name in names]
    if not nodes:
        raise InternalError(f"{graph.name}: no layer is left to quantise")
    _Writer(model.graph, ranges, encoding).quantise(nodes)
    path = graph.with_name(f"{graph.stem}.qdq-{encoding.name}.onnx")
    save(model, path)
    return path


class _Writer:
    """Changes one graph in place.

    Attributes:
        pairs: tensor to what its DequantizeLinear gives.
        scales: of those tensors, as stored.
        pools: names of those that read 8-bit values.
    """

    def __init__(self, graph: Any, ranges: Mapping[str, Range], encoding: Encoding) -> None:
        self.graph, self.ranges, self.encoding = graph, ranges, encoding
        self.constants = {entry.name: entry for entry in graph.initializer}
        self.pairs: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.pools: set[str] = set()

    def quantise(self, chosen: Sequence[Any]) -> None:
        for node in chosen:
            self._pair(node.input[0])
        if self.encoding.outputs:
            for node in chosen:
                self._pair(_result(self.graph, node))
        names = {node.name for node in chosen}
        sums = list(self._sums())
        # ONNX Runtime 1.32 quantises a float convolution between two pairs by itself, its weights as a whole,
        # which spoils a depthwise one: such a one reads and gives plain floats.
        apart = {
            node.name
            for node in self.graph.node
            if node.op_type in _PRODUCTS
            and node.name not in names
            and _result(self.graph, node) in self.pairs
        }
        for node in chosen:
            self._weights(node)
        for node in self.graph.node:
            if node.name in names:
                node.input[0] = self.pairs[node.input[0]]
            elif node.name in (*sums, *self.pools) or (
                self.encoding.outputs and node.op_type not in _PAIR and node.name not in apart
            ):
                for place, name in enumerate(node.input):
                    node.input[place] = self.pairs.get(name, name)
        self._drop_unused()
        self._sort()

    def _sums(self) -> Iterator[str]:
        """Names of sums that read 8-bit values; where both terms are, an engine may add in 8 bits."""
        for node in self.graph.node:
            if node.op_type == "Add" and any(name in self.pairs for name in node.input):
                if self.encoding.outputs and all(name in self.pairs for name in node.input):
                    self._pair(node.output[0])
                yield node.name

    def _pair(self, tensor: str) -> None:
        import numpy as np

        if tensor in self.pairs:
            return
        if tensor not in self.ranges:
            raise InternalError(f"the calibration table has no range for {tensor!r}")
        scale, zero = parameters(self.ranges[tensor], symmetric=self.encoding.symmetric)
        kind = np.int8 if self.encoding.symmetric else np.uint8
        scale_name = self._constant(f"{tensor}.scale", np.asarray(scale, np.float32))
        zero_name = self._constant(f"{tensor}.zero", np.asarray(zero, kind))
        self.scales[tensor] = float(np.float32(scale))
        stored, given = f"{tensor}.stored", f"{tensor}.quantised"
        pool = self._pool(tensor)
        if pool is None:
            source = tensor
            self.pairs[tensor] = given
        else:
            source = pool.input[0]
            self.pools.add(pool.name)
            self.pairs |= {source: given, tensor: tensor}
        self._node("QuantizeLinear", [source, scale_name, zero_name], stored)
        self._node("DequantizeLinear", [stored, scale_name, zero_name], given)

    def _pool(self, tensor: str) -> Any | None:
        """The MaxPool that gives `tensor`, where it alone reads its input: rounding may come before it."""
        if self.encoding.outputs:  # its input and its output are quantised, each for itself
            return None
        for node in self.graph.node:
            if node.op_type == "MaxPool" and node.output[0] == tensor:
                readers = [other for other in self.graph.node if node.input[0] in other.input]
                return node if len(readers) == 1 else None
        return None

    def _weights(self, node: Any) -> None:
        import numpy as np
        from onnx import numpy_helper

        axis = _PRODUCTS[node.op_type]
        name = node.input[1]
        values = numpy_helper.to_array(self.constants[name]).astype(np.float64)
        bias, least = None, 0.0
        if self.encoding.outputs and len(node.input) > 2 and node.input[2] in self.constants:
            bias = numpy_helper.to_array(self.constants[node.input[2]]).astype(np.float64)
            # The bias counts in steps of input times weights, and shall fit 32 bits.
            least = np.abs(bias) / (self.scales[node.input[0]] * _BIAS_STEPS)
        stored, scale = weights(values, axis, least)
        own = f"{name}.of.{node.name}"
        names = [
            self._constant(f"{own}.stored", stored),
            self._constant(f"{own}.scale", scale),
            self._constant(f"{own}.zero", np.zeros(len(scale), np.int8)),
        ]
        node.input[1] = f"{own}.quantised"
        self._node("DequantizeLinear", names, node.input[1], axis=axis)
        if bias is not None:
            self._bias(node, bias, scale)

    def _bias(self, node: Any, values: npt.NDArray[np.float64], scale: npt.NDArray[np.float32]) -> None:
        import numpy as np

        step = (scale.astype(np.float64) * self.scales[node.input[0]]).astype(np.float32)
        stored = np.rint(values / step).astype(np.int32)
        own = f"{node.input[2]}.of.{node.name}"
        names = [
            self._constant(f"{own}.stored", stored),
            self._constant(f"{own}.scale", step),
            self._constant(f"{own}.zero", np.zeros(len(step), np.int32)),
        ]
        node.input[2] = f"{own}.quantised"
        self._node("DequantizeLinear", names, node.input[2], axis=0)

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: int) -> None:
        from onnx import helper

        self.graph.node.append(
            helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)
        )

    def _drop_unused(self) -> None:
        read = {name for node in self.graph.node for name in node.input}
        kept = [entry for entry in self.graph.initializer if entry.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _sort(self) -> None:
        """Nodes in an order in which everything is computed before it is read."""
        known = {entry.name for entry in (*self.graph.input, *self.graph.initializer)} | {""}
        makers = {name: node for node in self.graph.node for name in node.output}
        ordered: list[Any] = []
        for last in list(self.graph.node):
            waiting = [last]
            while waiting:
                node = waiting[-1]
                missing = [makers[name] for name in node.input if name not in known]
                if missing:
                    waiting.extend(missing)
                    continue
                waiting.pop()
                if not known.issuperset(node.output):
                    known.update(node.output)
                    ordered.append(node)
        copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
        del self.graph.node[:]
        self.graph.node.extend(copies)


def parameters(found: Range, *, symmetric: bool) -> tuple[float, int]:
    """(scale, zero point) of 8-bit values that reach over `found`, and 0, which is one of them exactly."""
    import numpy as np

    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if symmetric:
        return (max(-low, high) / _STEPS or 1.0), 0
    scale = (high - low) / 255 or 1.0
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


def weights(
    values: npt.NDArray[np.float64], axis: int, least: npt.ArrayLike = 0.0
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """8-bit weights and their scale, `least` or more, per output channel, which lie along `axis`."""
    import numpy as np

    others = tuple(index for index in range(values.ndim) if index != axis)
    largest = np.abs(values).max(axis=others)
    scale = np.maximum(np.where(largest > 0, largest / _STEPS, 1.0), least).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = -1
    stored = np.clip(np.rint(values / scale.astype(np.float64).reshape(shape)), -_STEPS, _STEPS)
    return stored.astype(np.int8), scale


def _result(graph: Any, node: Any) -> str:
    """What `node` gives, behind an activation that alone reads it: engines compute both at once."""
    output = str(node.output[0])
    readers = [other for other in graph.node if output in other.input]
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS:
        return str(readers[0].output[0])
    return output


def _plain(node: Any, dims: int) -> bool:
    """Whether the axis of the output channels is that of `_PRODUCTS`: of a Gemm, only in y = x·Wᵀ + b."""
    if node.op_type == "MatMul":
        return dims == 2
    if node.op_type == "Conv":
        return True
    given = {entry.name: entry.f or entry.i for entry in node.attribute}
    usual = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}
    return all(given.get(name, 0 if name == "transB" else value) == value for name, value in usual.items())
