"""Two neighbouring outputs of a filter with fewer products than twice its taps: exact, but for rounding.

Of the pixels along one axis, even and odd ones apart, x₀[n] = x[2n] and x₁[n] = x[2n + 1]:

    4 taps as two of 2 (F(2, 2) on pairs of taps, a fast FIR filter of Mou & Duhamel 1991): 6 products, not 8
        m₀ = (h₀, h₂) ∗ (x₀ − x₁)    m₁ = (h₀ + h₁, h₂ + h₃) ∗ x₁    m₂ = (h₁, h₃) ∗ (x₀[n + 1] − x₁)
        y₀ = m₀ + m₁                 y₁ = m₁ + m₂
    3 taps (Winograd's F(2, 3), Lavin & Gray 2016, section 4): 4 products, not 6
        m₀ = h₀·(x₀ − x₀[n + 1])     m₁ = ½(h₀ + h₁ + h₂)·(x₁ + x₀[n + 1])
        m₃ = h₂·(x₁ − x₁[n + 1])     m₂ = ½(h₀ − h₁ + h₂)·(x₀[n + 1] − x₁)
        y₀ = m₀ + m₁ + m₂            y₁ = m₁ − m₂ − m₃

Rows and columns one after the other: 3 × 3 taps cost 4/9 of the products, 4 × 4 cost 9/16. F(2, 4) would cost
25/64; tried, its 25 inputs and 25 results per four pixels take longer to move than it saves, and bf16 loses
half as much again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

SAVED_PER_MOVED = 80
SAVED = 100e6


@dataclass(frozen=True, slots=True)
class Form:
    """How two neighbouring outputs are computed, along one axis.

    Attributes:
        inputs: per product, pixel (0 = the first one under the first output's filter) to its coefficient.
        filters: (products, taps, taps of the filter), float64: each product's own filter, of pixels 2 apart.
        outputs: per output, the products' coefficients.
    """

    inputs: tuple[Mapping[int, int], ...]
    filters: npt.NDArray[np.float64]
    outputs: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def taps(self) -> int:
        """Of each product's filter."""
        return len(self.filters[0])


FORMS = {
    3: Form(
        ({0: 1, 2: -1}, {1: 1, 2: 1}, {2: 1, 1: -1}, {1: 1, 3: -1}),
        np.array([[[1, 0, 0]], [[0.5, 0.5, 0.5]], [[0.5, -0.5, 0.5]], [[0, 0, 1]]]),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: Form(
        ({0: 1, 1: -1}, {1: 1}, {2: 1, 1: -1}),
        np.array(
            [
                [[1, 0, 0, 0], [0, 0, 1, 0]],
                [[1, 1, 0, 0], [0, 0, 1, 1]],
                [[0, 1, 0, 0], [0, 0, 0, 1]],
            ],
            np.float64,
        ),
        ((1, 1, 0), (0, 1, 1)),
    ),
}
"""Taps of a filter to its form."""


def filters(weight: npt.NDArray[np.float32], rows: Form, columns: Form) -> npt.NDArray[np.float32]:
    """A convolution's (O, C, h, w) weights as those of its products, (rows, columns, O, C, h', w')."""
    made = np.einsum(
        "ocyx,isy,jtx->ijocst", weight.astype(np.float64), rows.filters, columns.filters, optimize=True
    )
    return np.ascontiguousarray(made, np.float32)


def gain(shape: tuple[int, int, int, int], pixels: int) -> tuple[float, float]:
    """(products saved per value moved for it, products saved) of a convolution in this form.

    Args:
        shape: of the weights, (O, C, h, w).
        pixels: of the output, of all images.
    """
    outputs, inputs, height, width = shape
    rows, columns = FORMS[height], FORMS[width]
    products = len(rows.inputs) * len(columns.inputs)
    saved = (4 * height * width - products * rows.taps * columns.taps) * outputs * inputs
    moved = products * inputs + (products + 4) * outputs
    return saved / moved, saved * pixels / 4


def pays(shape: tuple[int, int, int, int], pixels: int) -> bool:
    """Whether a convolution is faster so, as far as could be measured; arguments as of `gain`.

    What is saved are products, what it costs are values moved to and from them; and small ones are bound by
    their weights, of which there are more. Both limits come from 3 × 3 and 4 × 4 convolutions of 64 to 512
    channels and 16 to 128 pixels a side on a CPU with AVX-512, fp32 and bf16
    (`benchmarks/suites/fast_convolution.py --sweep`), and from whole networks: below them, ResNet-18's were
    0.8 to 1.1 × as fast from one process to the next.
    """
    if any(taps not in FORMS for taps in shape[2:]):
        return False
    per_moved, saved = gain(shape, pixels)
    return per_moved >= SAVED_PER_MOVED and saved >= SAVED
