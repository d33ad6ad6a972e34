"""Synthetic images with the statistics of natural ones: what calibration uses when there is no data at all.

Natural images have an amplitude spectrum that falls as 1/f, colour channels that vary mostly together, and edges
where one object hides another. Activations of a vision transformer depend on all three; white noise has none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.feeds import FeedReader, batched, stack
from qcompiler.calibration.inputs import Feed, ModelInput, single_image_input
from qcompiler.calibration.preprocess import Preprocessing

GENERATOR_VERSION = 1
DEFAULT_COUNT = 128
# Columns: luminance, blue-yellow, red-green; in photographs each has a fraction of the previous one's amplitude.
_OPPONENT = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]]).T / np.sqrt([3.0, 6.0, 2.0])
_OPPONENT_SPREAD = np.array([1.0, 0.3, 0.15])
_MEAN, _SPREAD = 0.45, 0.25  # of the pixels, on the scale of [0, 1]
_TEXTURE_SHARE = 0.6  # amplitude of the texture over the spread between objects
_TEXTURE_EXPONENT = 1.2  # edges add high frequencies; together the spectrum falls as in photographs


def colour_mix(channels: int) -> npt.NDArray[np.float64]:
    """[channels, sources] matrix that gives independent unit sources the correlations of colour channels."""
    return _OPPONENT * _OPPONENT_SPREAD if channels == 3 else np.ones((1, 1))


def pink_texture(
    draw: np.random.Generator, channels: int, height: int, width: int, exponent: float = 1.0
) -> npt.NDArray[np.float64]:
    """Random-phase texture [channels, height, width], amplitude `1 / f**exponent`, mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf  # no constant part
    mix = colour_mix(channels)
    noise = np.fft.rfft2(draw.standard_normal((mix.shape[1], height, width)))
    texture = np.fft.irfft2(noise / frequency**exponent, s=(height, width))
    texture /= texture.std(axis=(1, 2), keepdims=True)
    coloured = np.tensordot(mix, texture, axes=1)
    result: npt.NDArray[np.float64] = coloured / coloured.std()
    return result


def dead_leaves(
    draw: np.random.Generator, channels: int, height: int, width: int, leaves: int = 150
) -> npt.NDArray[np.float64]:
    """Discs of random colour that hide one another, [channels, height, width], standard deviation about 1.

    Radii follow the density r^-3 between 2 % and 50 % of the shorter side, which makes the image scale-invariant: its
    amplitude spectrum falls as 1/f too, but its phases are aligned to edges.
    """
    side = min(height, width)
    low, high = max(1.0, 0.02 * side), max(2.0, 0.5 * side)
    # Inverse of the cumulative distribution of r^-3 on [low, high].
    radii = 1 / np.sqrt(low**-2 + draw.random(leaves) * (high**-2 - low**-2))
    centres = draw.random((leaves, 2)) * (height, width)
    mix = colour_mix(channels)
    colours = draw.standard_normal((leaves, mix.shape[1])) @ mix.T / np.sqrt((mix**2).sum(axis=1).mean())
    image = np.repeat(colours[0], height * width).reshape(channels, height, width)
    # Uniformly drawn order: a large late disc hides small early ones.
    for radius, (row, column), colour in zip(radii, centres, colours, strict=True):
        top, left = max(0, int(row - radius)), max(0, int(column - radius))
        rows = np.arange(top, min(height, int(row + radius) + 2))[:, None]
        columns = np.arange(left, min(width, int(column + radius) + 2))[None, :]
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        image[:, top : top + rows.size, left : left + columns.size][:, inside] = colour[:, None]
    return image


def natural_image(seed: int, channels: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """One image, float32 [channels, height, width] in [0, 1]; the same arguments give the same image."""
    draw = np.random.default_rng((GENERATOR_VERSION, seed))
    texture = pink_texture(draw, channels, height, width, _TEXTURE_EXPONENT)
    scene = dead_leaves(draw, channels, height, width) + _TEXTURE_SHARE * texture
    scene -= scene.mean(axis=(1, 2), keepdims=True)
    contrast = draw.uniform(0.6, 1.4)
    # The mean moves from image to image, by channel a little (the light's colour) and together a lot (exposure).
    level = _MEAN + 0.08 * draw.standard_normal() + 0.02 * draw.standard_normal((channels, 1, 1))
    pixels: npt.NDArray[np.float64] = np.clip(level + contrast * _SPREAD * scene / scene.std(), 0, 1)
    return pixels.astype(np.float32)


class SyntheticReader(FeedReader):
    """Feeds of synthetic images, normalised as the model expects real ones.

    Attributes:
        count: number of images.
        batch: images per feed; the model's batch where it is fixed.
        preprocessing: whose mean, std and size apply.
    """

    def __init__(
        self,
        model_input: ModelInput,
        preprocessing: Preprocessing | None = None,
        count: int = DEFAULT_COUNT,
        batch: int = 1,
        seed: int = 0,
    ) -> None:
        """Args: see the attributes; without a preprocessing the preset `half` applies.

        Raises:
            CalibrationDataError: the model does not read a batch of images.
            OptionError: the preprocessing does not fit the model's input.
        """
        super().__init__()
        self._input = single_image_input([model_input])
        self.preprocessing = (preprocessing or Preprocessing()).for_input(model_input)
        self.count = count
        self.batch = model_input.batch or batch
        self._seed = seed

    def __len__(self) -> int:
        """Number of different images."""
        return self.count

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        channels, height, width = (side if isinstance(side, int) else None for side in self._input.shape[1:])
        size = self.preprocessing.crop or 0
        return channels or 3, height or size, width or size

    def sha256(self) -> str:
        """Hash of everything that determines the images."""
        recipe = [GENERATOR_VERSION, self._seed, self.count, self.image_shape, self.preprocessing.to_dict()]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()

    def image(self, index: int) -> Feed:
        """Image `index` as {input name: [channels, height, width]}."""
        pixels = natural_image(self._seed + index, *self.image_shape)
        return {self._input.name: self.preprocessing.normalise(pixels).astype(self._input.dtype, copy=False)}

    def feeds(self) -> Iterator[Feed]:
        """A fresh stream over all feeds."""
        for indices in batched(range(self.count), self.batch):
            yield stack([self.image(index) for index in indices], self.batch)
