"""Convolutions with fewer products, beside torch's in float64 and OpenVINO's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.exporters._fast_convolution import replace_convolutions
from edgead.exporters._minimal_filters import FORMS, filters, pays
from edgead.runtimes._openvino import openvino

Pixels = npt.NDArray[np.float32]
Padding = tuple[tuple[int, int], tuple[int, int]]
NO_PADDING: Padding = ((0, 0), (0, 0))


def everything(_: Any) -> bool:
    return True


class Graph:
    """A graph in OpenVINO and the same function in torch, side by side."""

    def __init__(self, shape: Sequence[int], seed: int = 0) -> None:
        self.package = openvino()
        self.ops = self.package.opset13
        self.rng = np.random.default_rng(seed)
        self.image = self.ops.parameter(list(shape), np.float32)
        self.image.output(0).get_tensor().set_names({"image"})

    def weights(self, *shape: int) -> Pixels:
        scale = np.sqrt(np.prod(shape[1:]))
        return (self.rng.standard_normal(shape) / scale).astype(np.float32)

    def convolution(self, source: Any, weight: Pixels, padding: Padding = NO_PADDING) -> Any:
        own = self.ops.constant(weight)
        return self.ops.convolution(source, own, [1, 1], list(padding[0]), list(padding[1]), [1, 1])

    def pool(self, source: Any, size: int = 2) -> Any:
        return self.ops.avg_pool(
            source, [size, size], [0, 0], [0, 0], [size, size], False, "floor", "explicit"
        )

    def channels(self, source: Any) -> Any:
        return self.ops.reduce_sum(source, np.array([1]), True)

    def model(self, *outputs: Any) -> Any:
        for index, output in enumerate(outputs):
            output.output(0).get_tensor().set_names({f"map{index}"})
        return self.package.Model(list(outputs), [self.image])

    def run(self, model: Any, image: Pixels) -> list[Pixels]:
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = self.package.Core().compile_model(model, "CPU", hint)
        found = compiled({"image": image})
        return [np.array(found[f"map{index}"]) for index in range(len(model.outputs))]

    def kinds(self, model: Any) -> list[str]:
        return [node.get_type_name() for node in model.get_ordered_ops()]


def convolved(image: Tensor, weight: Pixels, padding: Padding = NO_PADDING) -> Tensor:
    (top, left), (bottom, right) = padding
    return F.conv2d(F.pad(image, (left, right, top, bottom)), torch.from_numpy(weight).double())


def close(found: Pixels, wanted: Tensor) -> None:
    assert found.shape == tuple(wanted.shape)
    assert np.abs(found - wanted.numpy()).max() <= 1e-5 * max(1e-30, float(wanted.abs().max()))


@pytest.mark.parametrize("taps", sorted(FORMS))
def test_a_form_gives_what_the_filter_gives(taps: int) -> None:
    form, rng = FORMS[taps], np.random.default_rng(taps)
    for scale in (1.0, 1e-30, 1e30):
        kernel, signal = rng.standard_normal(taps) * scale, rng.standard_normal(32)
        wanted = np.correlate(signal, kernel)
        for first in range(0, 20, 2):
            own = form.filters @ kernel
            products = [
                sum(
                    own[index, tap] * sum(sign * signal[first + 2 * tap + at] for at, sign in one.items())
                    for tap in range(form.taps)
                )
                for index, one in enumerate(form.inputs)
            ]
            found = np.array(form.outputs) @ np.array(products)
            assert found == pytest.approx(wanted[first : first + 2], rel=1e-9, abs=1e-12 * scale)


def test_filters_are_those_of_rows_and_of_columns_in_turn() -> None:
    weight = np.random.default_rng(1).standard_normal((2, 3, 3, 4)).astype(np.float32)
    found = filters(weight, FORMS[3], FORMS[4])
    assert found.shape == (4, 3, 2, 3, 1, 2)
    assert found.dtype == np.float32
    rows = 0.5 * (weight[:, :, 0] - weight[:, :, 1] + weight[:, :, 2])  # product 2 of three taps
    pairs = np.stack([rows[..., 0] + rows[..., 1], rows[..., 2] + rows[..., 3]], -1)  # product 1 of four
    assert found[2, 1, :, :, 0] == pytest.approx(pairs, abs=1e-6)


@pytest.mark.parametrize(
    ("taps", "size", "padding"),
    [
        ((4, 4), (19, 20), NO_PADDING),
        ((4, 4), (20, 17), NO_PADDING),
        ((3, 3), (13, 12), NO_PADDING),
        ((3, 3), (12, 13), ((1, 1), (1, 1))),
        ((3, 3), (5, 4), NO_PADDING),
        ((3, 4), (11, 14), ((2, 0), (1, 3))),
        ((4, 3), (4, 3), NO_PADDING),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_any_size_and_padding(
    taps: tuple[int, int], size: tuple[int, int], padding: Padding, scale: float
) -> None:
    graph = Graph((2, 5, *size))
    weight = graph.weights(7, 5, *taps)
    model = graph.model(graph.convolution(graph.image, weight, padding))
    image = (graph.rng.standard_normal((2, 5, *size)) * scale).astype(np.float32)
    image[0] = scale  # one value everywhere, of which the differences are zero
    assert replace_convolutions(model, everything) == 1
    close(graph.run(model, image)[0], convolved(torch.from_numpy(image).double(), weight, padding))


@pytest.mark.parametrize("size", [(21, 24), (22, 23)])
@pytest.mark.parametrize("taps", [3, 4])
def test_the_mean_of_four_pixels_is_taken_of_the_phases(size: tuple[int, int], taps: int) -> None:
    graph = Graph((1, 4, *size))
    weight, bias = graph.weights(6, 4, taps, taps), graph.weights(1, 6, 1, 1)
    straight = graph.ops.add(graph.convolution(graph.image, weight), graph.ops.constant(bias))
    model = graph.model(graph.pool(graph.ops.relu(straight)))
    replace_convolutions(model, everything)
    assert not {"AvgPool", "DepthToSpace"} & set(graph.kinds(model))
    image = graph.rng.standard_normal((1, 4, *size)).astype(np.float32)
    wanted = convolved(torch.from_numpy(image).double(), weight) + torch.from_numpy(bias)
    close(graph.run(model, image)[0], F.avg_pool2d(wanted.relu(), 2))


def test_other_pools_and_readers_get_the_whole_image() -> None:
    graph = Graph((1, 4, 15, 15))
    weight = graph.weights(6, 4, 4, 4)
    inner = graph.convolution(graph.image, weight)
    model = graph.model(graph.pool(inner, 3), graph.pool(inner), graph.ops.sigmoid(inner))
    replace_convolutions(model, everything)
    assert graph.kinds(model).count("DepthToSpace") == 1
    image = graph.rng.standard_normal((1, 4, 15, 15)).astype(np.float32)
    wanted = convolved(torch.from_numpy(image).double(), weight)
    for found, straight in zip(
        graph.run(model, image),
        (F.avg_pool2d(wanted, 3), F.avg_pool2d(wanted, 2), wanted.sigmoid()),
        strict=True,
    ):
        close(found, straight)


def test_one_after_the_other_they_need_no_image_between_them() -> None:
    graph = Graph((1, 4, 18, 17))
    first, second = graph.weights(6, 4, 3, 3), graph.weights(5, 6, 4, 4)
    inner = graph.ops.relu(graph.convolution(graph.image, first))
    last = graph.convolution(inner, second)
    model = graph.model(graph.channels(graph.ops.power(last, graph.ops.constant(np.float32(2)))))
    assert replace_convolutions(model, everything) == 2
    assert graph.kinds(model).count("DepthToSpace") == 1  # of the sum over channels
    image = graph.rng.standard_normal((1, 4, 18, 17)).astype(np.float32)
    wanted = convolved(convolved(torch.from_numpy(image).double(), first).relu(), second)
    close(graph.run(model, image)[0], wanted.square().sum(1, keepdim=True))


def test_what_is_added_is_cut_or_left_alone() -> None:
    graph = Graph((1, 4, 12, 12))
    own, other = graph.weights(6, 4, 3, 3), graph.weights(6, 4, 3, 3)
    replaced = graph.convolution(graph.image, own)
    left = graph.convolution(graph.image, other)
    left.set_friendly_name("left")
    column = graph.weights(1, 6, 10, 1)  # is not the same at all pixels and has not all of them
    both = graph.ops.add(replaced, left)
    model = graph.model(both, graph.pool(graph.ops.add(both, graph.ops.constant(column))))
    assert replace_convolutions(model, lambda node: node.get_friendly_name() != "left") == 1
    image = graph.rng.standard_normal((1, 4, 12, 12)).astype(np.float32)
    exact = torch.from_numpy(image).double()
    wanted = convolved(exact, own) + convolved(exact, other)
    found = graph.run(model, image)
    close(found[0], wanted)
    close(found[1], F.avg_pool2d(wanted + torch.from_numpy(column), 2))


def test_channels_side_by_side_stay_in_phases_where_all_of_them_are() -> None:
    graph = Graph((1, 4, 12, 12))
    own, other = graph.weights(6, 4, 3, 3), graph.weights(5, 4, 3, 3)
    replaced = [graph.convolution(graph.image, weight) for weight in (own, other)]
    flat = graph.ops.concat(replaced, 1)
    mixed = graph.ops.concat([replaced[0], graph.ops.sigmoid(replaced[1])], 1)
    model = graph.model(flat, mixed)
    replace_convolutions(model, everything)
    image = graph.rng.standard_normal((1, 4, 12, 12)).astype(np.float32)
    exact = torch.from_numpy(image).double()
    one, two = convolved(exact, own), convolved(exact, other)
    found = graph.run(model, image)
    close(found[0], torch.cat([one, two], 1))
    close(found[1], torch.cat([one, two.sigmoid()], 1))


def _strided(graph: Graph, weight: Pixels) -> Any:
    return graph.ops.convolution(graph.image, graph.ops.constant(weight), [2, 2], [0, 0], [0, 0], [1, 1])


def _dilated(graph: Graph, weight: Pixels) -> Any:
    return graph.ops.convolution(graph.image, graph.ops.constant(weight), [1, 1], [0, 0], [0, 0], [2, 2])


@pytest.mark.parametrize("make", [_strided, _dilated])
def test_others_are_left_as_they_are(make: Callable[[Graph, Pixels], Any]) -> None:
    graph = Graph((1, 4, 16, 16))
    model = graph.model(make(graph, graph.weights(6, 4, 4, 4)))
    before = graph.kinds(model)
    assert replace_convolutions(model, everything) == 0
    assert graph.kinds(model) == before


@pytest.mark.parametrize("taps", [1, 2, 5])
def test_so_are_other_numbers_of_taps(taps: int) -> None:
    graph = Graph((1, 4, 16, 16))
    model = graph.model(graph.convolution(graph.image, graph.weights(6, 4, taps, taps)))
    assert replace_convolutions(model, everything) == 0


def test_what_pays_is_large() -> None:
    # 256 × 256 × 28 saved for each 2 × 2 outputs, 9 × 256 + 13 × 256 values moved: 326 each.
    assert pays((256, 256, 4, 4), 56 * 56)
    # 64 × 64 × 20 and 36 × 64: 36 each.
    assert not pays((64, 64, 3, 3), 128 * 128)
    # Few pixels: 256 × 256 × 28 × 8 × 8 / 4 = 29 million saved.
    assert not pays((256, 256, 4, 4), 8 * 8)
    assert not pays((512, 512, 5, 5), 128 * 128)
