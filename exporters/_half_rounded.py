"""The fp16 form of a graph in float32 with every rounding written out, for a CPU without half precision.

ONNX Runtime's CPU computes fp16 nodes in float32 and drops the casts between them, at every level of
optimisation: it would show neither what half precision rounds away nor what overflows in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgead.exporters._onnx_file import save

# These give values that their inputs have: nothing to round.
_EXACT = {
    "Reshape", "Transpose", "Slice", "Split", "Concat", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Expand",
    "Pad", "MaxPool", "Relu",
}  # fmt: skip
# x·(2^13 + 1) - (x·(2^13 + 1) - x) is x with 24 - 13 = 11 bits (Dekker, Numer. Math. 18, 1971).
_SPLIT = 2.0**13 + 1
# Half precision ends below 2^16; times this, what is beyond is no number in float32 any more.
_BEYOND = 2.0**112


def rounded(graph: Path) -> Path:
    """Write a fp16 graph in float32 as ``<stem>.rounded.onnx`` beside it.

    A value that half precision cannot hold becomes NaN; below 6e-5 more bits are kept than it has.

    Args:
        graph: what `edgead.exporters._half.half` wrote, its external data beside it.

    Raises:
        OutputError: the file cannot be written.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    halves = {entry.name for entry in model.graph.value_info if entry.type.tensor_type.elem_type == half}
    for entry in model.graph.initializer:
        if entry.data_type == half:
            entry.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(entry).astype(np.float32), entry.name)
            )
    constants = {"rounded.split": _SPLIT, "rounded.beyond": _BEYOND}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()
    )
    nodes: list[Any] = []
    for node in model.graph.node:
        made = [name for name in node.output if name in halves and node.op_type not in _EXACT]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type == "Cast":
            to = next(entry.i for entry in node.attribute if entry.name == "to")
            if to == half or (to == single and node.input[0] in halves):
                copy = helper.make_node("Identity", node.input, node.output, name=node.name)
        for place, name in enumerate(node.output):
            if name in made:
                copy.output[place] = f"{name}.exact"
        nodes.append(copy)
        for name in made:
            steps = [
                ("Mul", f"{name}.exact", "rounded.split", f"{name}.large"),
                ("Sub", f"{name}.large", f"{name}.exact", f"{name}.rest"),
                ("Sub", f"{name}.large", f"{name}.rest", f"{name}.short"),
                ("Mul", f"{name}.short", "rounded.beyond", f"{name}.huge"),
                ("Sub", f"{name}.huge", f"{name}.huge", f"{name}.nothing"),
                ("Add", f"{name}.short", f"{name}.nothing", name),
            ]
            nodes += [
                helper.make_node(kind, [a, b], [out], name=f"{out}/{kind}") for kind, a, b, out in steps
            ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    path = graph.with_name(f"{graph.stem}.rounded.onnx")
    save(model, path)
    return path
