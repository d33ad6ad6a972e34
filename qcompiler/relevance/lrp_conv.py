"""Relevance through a convolution: a linear layer on patches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.quant.groups import F32
from qcompiler.relevance.lrp_visit import Visit


@dataclass(frozen=True)
class Window:
    """A kernel moving over an image of any number of axes; every field has one entry per axis.

    Attributes:
        kernel: Size.
        strides: Distance of two positions.
        dilations: Distance of two taps.
        before: Padding in front.
        after: Padding behind.
        positions: Size of the result.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    positions: tuple[int, ...]

    def taps(self) -> Iterator[tuple[slice, ...]]:
        """For every tap of the kernel, in row-major order, the padded elements that it meets."""
        for tap in itertools.product(*map(range, self.kernel)):
            yield tuple(
                slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
                for at, dilation, stride, count in zip(tap, self.dilations, self.strides, self.positions, strict=True)
            )


def conv(visit: Visit) -> Sequence[F32]:
    """Conv: the linear rule on every patch, then the sum over the patches that an element belongs to; no bias."""
    if visit.input(1).variable or not visit.input(0).variable:
        raise visit.refusal("with computed weights")
    x, weight = visit.value(0), visit.value(1)
    window = _window(visit, x.shape[2:], weight.shape[2:])
    groups = visit.attribute("group", 1)
    images, channels = x.shape[:2]
    around = ((0, 0), (0, 0), *zip(window.before, window.after, strict=True))
    padded = np.pad(x, around)
    taps = [(slice(None), slice(None), *tap) for tap in window.taps()]
    # [taps, images, channels, *positions] -> [groups, images * positions, channels of a group * taps]
    patches = np.stack([padded[tap] for tap in taps]).reshape(len(taps), images, groups, channels // groups, -1)
    rows = patches.transpose(2, 1, 4, 3, 0).reshape(groups, -1, channels // groups * len(taps))
    columns = weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(1, 2)
    result = visit.relevance.reshape(images, groups, columns.shape[2], -1)
    arriving = result.transpose(1, 0, 3, 2).reshape(groups, -1, columns.shape[2])
    back = visit.linear(rows, columns, arriving)
    back = back.reshape(groups, images, -1, channels // groups, len(taps)).transpose(4, 1, 0, 3, 2)
    found = np.zeros_like(padded)
    for tap, part in zip(taps, back, strict=True):
        found[tap] += part.reshape(images, channels, *window.positions)
    sizes = zip(window.before, x.shape[2:], strict=True)
    inside = (slice(None), slice(None), *(slice(before, before + size) for before, size in sizes))
    return [found[inside]]


def _window(visit: Visit, image: Sequence[int], kernel: Sequence[int]) -> Window:
    axes = len(image)
    strides = visit.attribute("strides", [1] * axes)
    dilations = visit.attribute("dilations", [1] * axes)
    pads = visit.attribute("pads", [0] * 2 * axes)
    before, after = tuple(pads[:axes]), tuple(pads[axes:])
    positions = visit.outputs[0][2:]
    automatic = visit.attribute("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME"):
        spans = [
            max((count - 1) * stride + (size - 1) * dilation + 1 - length, 0)
            for count, stride, size, dilation, length in zip(positions, strides, kernel, dilations, image, strict=True)
        ]
        small, large = tuple(span // 2 for span in spans), tuple(span - span // 2 for span in spans)
        before, after = (large, small) if automatic == "SAME_LOWER" else (small, large)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), before, after, tuple(positions))
