"""The transform against one written with torchvision-free, per-pixel code, and its options."""

import numpy as np
import pytest
from PIL import Image

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.preprocess import PRESETS, Preprocessing
from qcompiler.errors import OptionError

INPUT = ModelInput("input", ("batch", 3, 224, 224))


def noise_image(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_defaults_follow_the_model_input():
    assert PRESETS["half"].for_input(INPUT).to_dict() == {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "resize": 248,
        "crop": 224,
        "interpolation": "bicubic",
    }
    small = PRESETS["imagenet"].for_input(ModelInput("x", (None, 3, 32, 32)))
    assert (small.resize, small.crop) == (35, 32)
    free = PRESETS["half"].for_input(ModelInput("x", ("batch", 3, "height", "width")))
    assert (free.resize, free.crop) == (248, 224)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((500, 333), (372, 248)),  # 500 * 248 / 333 = 372.37
        ((333, 500), (248, 372)),
        ((227, 227), (248, 248)),
        ((300, 299), (249, 248)),  # 248.83: rounded up, truncation would give 248 and move no crop
        ((307, 299), (255, 248)),  # 254.64: crop starts at (255 - 224) // 2 = 15, truncated it would too
        ((303, 299), (251, 248)),  # 251.32: odd rest 27, integer division gives 13 where rounding gives 14
    ],
)
def test_usual_transform(size, resized):
    image = noise_image(*size)
    values = PRESETS["imagenet"].for_input(INPUT)(image)

    scaled = np.asarray(image.resize(resized, Image.Resampling.BICUBIC), np.float64)
    top, left = int((resized[1] - 224) / 2), int((resized[0] - 224) / 2)
    window = scaled[top : top + 224, left : left + 224] / 255
    expected = (window - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert values.shape == (3, 224, 224)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected.transpose(2, 0, 1), atol=1e-6)


def test_none_keeps_pixels_of_the_model_size():
    image = noise_image(224, 224)
    values = PRESETS["none"].for_input(INPUT)(image)
    np.testing.assert_array_equal(values, np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255))


def test_grey_and_transparent_images_become_rgb():
    transform = PRESETS["half"].for_input(INPUT)
    grey = Image.new("L", (64, 64), 51)
    np.testing.assert_allclose(transform(grey), np.full((3, 224, 224), -0.6, np.float32), atol=1e-6)
    assert transform(Image.new("RGBA", (64, 64), (0, 0, 0, 0))).shape == (3, 224, 224)
    assert transform(Image.new("P", (64, 64))).shape == (3, 224, 224)


def test_one_channel_is_luminance():
    transform = PRESETS["half"].for_input(ModelInput("x", (1, 1, 32, 32)))
    values = transform(Image.new("RGB", (40, 40), (255, 255, 255)), channels=1)
    np.testing.assert_array_equal(values, np.ones((1, 32, 32), np.float32))
    with pytest.raises(OptionError, match="1 channel"):
        PRESETS["imagenet"].for_input(INPUT)(noise_image(224, 224), channels=1)


def test_overrides():
    changed = Preprocessing.preset("half", mean=[0.1], std=[1, 2, 3], resize=300, crop=256)
    assert changed.mean == (0.1, 0.1, 0.1)
    assert changed.std == (1.0, 2.0, 3.0)
    assert (changed.resize, changed.crop) == (300, 256)
    assert Preprocessing.preset("half") == PRESETS["half"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": [0.0]}, "--std must be positive"),
        ({"std": [0.2, -0.1, 0.2]}, "--std must be positive"),
        ({"mean": [0.5, 0.5]}, "--mean takes 1 or 3"),
        ({"mean": [float("nan")]}, "finite"),
        ({"resize": 0}, "--resize takes a positive"),
        ({"crop": -1}, "--crop takes a positive"),
        ({"resize": 200, "crop": 224}, "--crop 224 is larger than --resize 200"),
    ],
)
def test_values_that_make_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        Preprocessing.preset("half", **options)


def test_unknown_preset_names_the_choices():
    with pytest.raises(OptionError, match="half, imagenet, none"):
        Preprocessing.preset("vit")


def test_crop_that_contradicts_the_model():
    with pytest.raises(OptionError, match="--crop 200 does not fit 'input'"):
        Preprocessing.preset("half", crop=200).for_input(INPUT)
    with pytest.raises(OptionError, match="no square"):
        PRESETS["half"].for_input(ModelInput("x", (1, 3, 224, 192)))
    # The size of the model is larger than the requested short side.
    with pytest.raises(OptionError, match="larger than --resize"):
        Preprocessing.preset("half", resize=100).for_input(INPUT)


def test_unresolved_sizes_are_refused():
    with pytest.raises(OptionError, match="--resize and --crop"):
        PRESETS["half"](noise_image(32, 32))
