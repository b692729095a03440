"""Large convolutions of stride 1, in OpenVINO's graph, as plain operations with fewer products.

How, says `_minimal_filters`. What such a convolution gives are four images of every second row and column,
its phases. What works pixel by pixel goes on in phases, the mean of 2 × 2 pixels is the mean of the phases,
the next such convolution reads them, and only what is left is put together again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.exporters._minimal_filters import FORMS, Form, filters, pays
from edgead.runtimes._openvino import openvino

if TYPE_CHECKING:
    import numpy.typing as npt

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of the first pixel of each, in the order that DepthToSpace takes them in."""


@dataclass(frozen=True, slots=True)
class Phased:
    """An image (N, C, height, width) in four.

    Attributes:
        parts: of `PHASES`, the outputs that hold them, all of one size. Of an odd height or width, the last
            row or column of the second phase is nobody's.
    """

    parts: Mapping[tuple[int, int], Any]
    height: int
    width: int


def replace_convolutions(model: Any, wanted: Callable[[Any], bool] | None = None) -> int:
    """Change an openvino.Model in place; how many convolutions were replaced.

    Args:
        model: float32.
        wanted: of a Convolution that could be replaced, whether it shall be; None = where it pays.
    """
    return _Rewriter(model, wanted or _pays).run()


def _pays(node: Any) -> bool:
    batch, _, height, width = node.output(0).get_shape()
    return pays(tuple(node.input(1).get_shape()), batch * height * width)


class _Rewriter:
    def __init__(self, model: Any, wanted: Callable[[Any], bool]) -> None:
        self.model, self.wanted, self.ops = model, wanted, openvino().opset13
        self.phased: dict[Any, Phased] = {}
        self.joined: dict[Any, Any] = {}

    def run(self) -> int:
        """From the inputs to the outputs; nodes that nobody reads any more fall away by themselves."""
        count = 0
        for node in self.model.get_ordered_ops():
            if _replaceable(node) and self.wanted(node):
                self.phased[node.output(0)] = self._convolve(node)
                count += 1
            elif not any(source in self.phased for source in node.input_values()):
                continue
            elif _is_mean_of_four(node):
                self._pool(node)
            elif self._goes_on_in_phases(node):
                self._each_phase(node)
            else:
                for place in node.inputs():
                    if place.get_source_output() in self.phased:
                        place.replace_source_output(self._join(place.get_source_output()))
        self.model.validate_nodes_and_infer_types()
        return count

    def _convolve(self, node: Any) -> Phased:
        weight = node.input_value(1).get_node().data
        rows, columns = FORMS[weight.shape[2]], FORMS[weight.shape[3]]
        height, width = _pixels(node.output(0))
        if _is_pooled(node):  # which leaves out an odd last row and column
            height, width = height // 2 * 2, width // 2 * 2
        counts = (height + 1) // 2 + rows.taps - 1, (width + 1) // 2 + columns.taps - 1
        streams = self._streams(self._padded(node), rows, columns, counts)
        products = [
            [self._direct(stream, own) for stream, own in zip(*line, strict=True)]
            for line in zip(streams, filters(weight, rows, columns), strict=True)
        ]
        sums = [[self._sum(signs, line) for line in zip(*products, strict=True)] for signs in rows.outputs]
        return Phased({(a, b): self._sum(columns.outputs[b], sums[a]) for a, b in PHASES}, height, width)

    def _padded(self, node: Any) -> Any:
        """What the convolution reads, zeros around it where it has them."""
        source, given = node.input_value(0), node.get_attributes()
        begin, end = given["pads_begin"], given["pads_end"]
        if not any([*begin, *end]):
            return source
        return self._pad(self._join(source) if source in self.phased else source, begin, end)

    def _streams(self, source: Any, rows: Form, columns: Form, counts: tuple[int, int]) -> list[list[Any]]:
        """Each product's input: (products of rows, products of columns), all of `counts` pixels."""
        cut = {
            (a, b): self._every_second(source, (a, b), counts)
            for a in sorted({offset for one in rows.inputs for offset in one})
            for b in sorted({offset for one in columns.inputs for offset in one})
        }
        lines = [
            {b: self._sum(one.values(), [cut[a, b] for a in one]) for _, b in cut} for one in rows.inputs
        ]
        return [[self._sum(one.values(), [line[b] for b in one]) for one in columns.inputs] for line in lines]

    def _every_second(self, source: Any, first: tuple[int, int], counts: tuple[int, int]) -> Any:
        """Of an image, `counts` pixels from `first` on; zeros behind its end."""
        step, start = 2, list(first)
        if source in self.phased:
            source = self.phased[source].parts[first[0] % 2, first[1] % 2]
            step, start = 1, [offset // 2 for offset in first]
        size = _pixels(source)
        stop = [begin + step * (count - 1) + 1 for begin, count in zip(start, counts, strict=True)]
        missing = [max(0, -(-(end - have) // step)) for end, have in zip(stop, size, strict=True)]
        if (start, stop, step) != ([0, 0], size, 1):
            source = self._slice(source, start, stop, step)
        return self._pad(source, [0, 0], missing) if any(missing) else source

    def _sum(self, signs: Iterable[int], values: Iterable[Any]) -> Any:
        """Σ sign·value; signs are 1, 0 and −1, a positive one among them."""
        (_, total), *others = sorted(zip(signs, values, strict=True), key=lambda pair: -pair[0])
        for sign, value in others:
            if sign:
                total = (self.ops.add if sign > 0 else self.ops.subtract)(total, value).output(0)
        return total

    def _direct(self, stream: Any, weight: npt.NDArray[np.float32]) -> Any:
        own = self.ops.constant(weight)
        return self.ops.convolution(stream, own, [1, 1], [0, 0], [0, 0], [1, 1]).output(0)

    def _pool(self, node: Any) -> None:
        known = self.phased[node.input_value(0)]
        total = self._sum([1] * len(PHASES), [known.parts[phase] for phase in PHASES])
        mean = self.ops.multiply(total, self.ops.constant(np.float32(0.25))).output(0)
        mean = self._crop(mean, known.height // 2, known.width // 2)
        for place in node.output(0).get_target_inputs():
            place.replace_source_output(mean)

    def _goes_on_in_phases(self, node: Any) -> bool:
        """Whether every phase of the result comes from that phase of what it reads."""
        kind, sources = node.get_type_name(), node.input_values()
        if kind == "Concat":
            return node.get_attributes()["axis"] == 1 and all(source in self.phased for source in sources)
        if kind == "ReduceSum":
            axes = sources[1].get_node()
            over_channels = axes.get_type_name() == "Constant" and axes.data.ravel().tolist() == [1]
            return over_channels and bool(node.get_attributes()["keep_dims"])
        return _is_by_pixel(node)

    def _each_phase(self, node: Any) -> None:
        sources = node.input_values()
        known = next(self.phased[source] for source in sources if source in self.phased)
        rows, columns = _pixels(known.parts[0, 0])
        make = {
            "Add": self.ops.add,
            "Relu": self.ops.relu,
            "Power": self.ops.power,
            "ReduceSum": partial(self.ops.reduce_sum, keep_dims=True),
            "Concat": lambda *given: self.ops.concat(list(given), 1),
        }[node.get_type_name()]
        parts = {}
        for phase in PHASES:
            given = [
                source if _is_even(source) else self._every_second(source, phase, (rows, columns))
                for source in sources
            ]
            parts[phase] = make(*given).output(0)
        self.phased[node.output(0)] = Phased(parts, known.height, known.width)

    def _join(self, source: Any) -> Any:
        """The image itself, made once."""
        if source not in self.joined:
            known = self.phased[source]
            stacked = self.ops.concat([known.parts[phase] for phase in PHASES], 1)
            image = self.ops.depth_to_space(stacked, "blocks_first", 2).output(0)
            image = self._crop(image, known.height, known.width)
            # A model's output goes by the name of what its Result reads.
            image.get_tensor().set_names(source.get_names())
            self.joined[source] = image
        return self.joined[source]

    def _crop(self, image: Any, height: int, width: int) -> Any:
        same = _pixels(image) == [height, width]
        return image if same else self._slice(image, [0, 0], [height, width], 1)

    def _slice(self, image: Any, start: list[int], stop: list[int], step: int) -> Any:
        numbers = (np.array(each, np.int64) for each in (start, stop, [step, step], [2, 3]))
        return self.ops.slice(image, *map(self.ops.constant, numbers)).output(0)

    def _pad(self, image: Any, begin: Iterable[int], end: Iterable[int]) -> Any:
        zero = self.ops.constant(np.float32(0))
        return self.ops.pad(image, [0, 0, *begin], [0, 0, *end], "constant", zero).output(0)


def _pixels(image: Any) -> list[int]:
    return list(image.get_shape())[-2:]


def _is_even(source: Any) -> bool:
    """Whether a value is the same at all pixels."""
    return all(side == 1 for side in _pixels(source))


def _is_by_pixel(node: Any) -> bool:
    """Whether every pixel of the result comes from the same pixel of what it reads."""
    size = _pixels(node.output(0))
    return node.get_type_name() in {"Add", "Relu", "Power"} and all(
        _is_even(source) or _pixels(source) == size for source in node.input_values()
    )


def _replaceable(node: Any) -> bool:
    """Whether stride, taps and types are such that the forms hold."""
    if node.get_type_name() != "Convolution":
        return False
    given, weight = node.get_attributes(), node.input_value(1)
    return (
        given["strides"] == given["dilations"] == [1, 1]
        and given["auto_pad"] == "explicit"
        and weight.get_node().get_type_name() == "Constant"
        and node.input_value(0).get_partial_shape().is_static
        and len(weight.get_shape()) == 4
        and all(taps in FORMS for taps in _pixels(weight))
    )


def _is_mean_of_four(node: Any) -> bool:
    """Whether it is the mean of 2 × 2 pixels, side by side."""
    if node.get_type_name() != "AvgPool":
        return False
    given = node.get_attributes()
    return (
        given["kernel"] == given["strides"] == [2, 2]
        and not any([*given["pads_begin"], *given["pads_end"]])
        and (given["auto_pad"], given["rounding_type"]) == ("explicit", "floor")
    )


def _is_pooled(node: Any) -> bool:
    """Whether such a mean is all that reads it, behind bias and activation."""
    readers = node.output(0).get_target_inputs()
    while len(readers) == 1:
        reader = next(iter(readers)).get_node()
        if not _is_by_pixel(reader):
            return _is_mean_of_four(reader)
        readers = reader.output(0).get_target_inputs()
    return False
