"""Files of Hugging Face's image processors against the transform written out with Pillow and NumPy."""

import json

import numpy as np
import pytest
from PIL import Image

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.preprocessor_config import read_preprocessor_config
from qcompiler.errors import OptionError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]

VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": HALF,
    "image_std": HALF,
}
DEIT = VIT | {
    "image_processor_type": "DeiTImageProcessor",
    "size": {"height": 36, "width": 36},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "image_mean": MEAN,
    "image_std": STD,
}
CLIP = DEIT | {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 36}}
OLD_CLIP = CLIP | {"feature_extractor_type": "CLIPFeatureExtractor", "size": 36, "crop_size": 32}
del OLD_CLIP["image_processor_type"]
OLD_VIT = {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "image_mean": HALF, "image_std": HALF}
CONVNEXT = VIT | {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.875}
LARGE_CONVNEXT = CONVNEXT | {"size": {"shortest_edge": 384}}
BARE = VIT | {"do_normalize": False, "rescale_factor": 1 / 127.5}
RAW = VIT | {"do_rescale": False, "do_normalize": False}
UNSIZED = VIT | {"do_resize": False}


def photo(width=50, height=40):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def resized(image, size, filter_, crop=None):
    """[rows, columns, 3] of 0..255 after a resize to (width, height) and a centre crop."""
    pixels = np.asarray(image.resize(size, filter_), np.float64)
    if crop:
        top, left = (size[1] - crop) // 2, (size[0] - crop) // 2
        pixels = pixels[top : top + crop, left : left + crop]
    return pixels


@pytest.fixture
def transform(tmp_path):
    """What the file with these values does to an image, for a model that reads `side` x `side`."""

    def apply(config, image, side=32):
        path = tmp_path / "preprocessor_config.json"
        path.write_text(json.dumps(config))
        return read_preprocessor_config(path).for_input(ModelInput("x", (None, 3, side, side)))(image)

    return apply


# The short side of a 50 x 40 photo becomes 36: 50 * 36 / 40 = 45.
@pytest.mark.parametrize(
    ("config", "size", "filter_", "crop", "mean", "std"),
    [
        (VIT, (32, 32), Image.Resampling.BILINEAR, None, HALF, HALF),
        (OLD_VIT, (32, 32), Image.Resampling.BILINEAR, None, HALF, HALF),
        (DEIT, (36, 36), Image.Resampling.BICUBIC, 32, MEAN, STD),
        (CLIP, (45, 36), Image.Resampling.BICUBIC, 32, MEAN, STD),
        (OLD_CLIP, (45, 36), Image.Resampling.BICUBIC, 32, MEAN, STD),
        (CONVNEXT, (45, 36), Image.Resampling.BILINEAR, 32, HALF, HALF),
        (VIT | {"resample": 4}, (32, 32), Image.Resampling.BOX, None, HALF, HALF),
        (VIT | {"image_mean": [0.25], "image_std": 0.5}, (32, 32), Image.Resampling.BILINEAR, None, 0.25, 0.5),
    ],
    ids=["vit", "old vit", "deit", "clip", "old clip", "convnext", "box", "one mean"],
)
def test_processors(transform, config, size, filter_, crop, mean, std):
    image = photo()
    expected = (resized(image, size, filter_, crop) / 255 - mean) / std
    found = transform(config, image)
    assert found.shape == (3, 32, 32)
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=2e-6)


def test_large_convnext_is_not_cropped(transform):
    image = photo()
    expected = resized(image, (384, 384), Image.Resampling.BILINEAR) / 127.5 - 1
    np.testing.assert_allclose(transform(LARGE_CONVNEXT, image, 384), expected.transpose(2, 0, 1), atol=2e-6)


@pytest.mark.parametrize(("config", "scale"), [(BARE, 1 / 127.5), (RAW, 1.0)])
def test_scale_without_normalisation(transform, config, scale):
    expected = resized(photo(), (32, 32), Image.Resampling.BILINEAR) * scale
    np.testing.assert_allclose(transform(config, photo()), expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)


def test_images_of_the_right_size_are_left_alone(transform):
    image = photo(32, 32)
    expected = np.asarray(image, np.float64) / 127.5 - 1
    np.testing.assert_allclose(transform(UNSIZED, image), expected.transpose(2, 0, 1), atol=2e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (VIT | {"size": {"height": 32, "width": 48}}, "32 x 48 pixels are not square"),
        (VIT | {"resample": 9}, "'resample' 9"),
        (VIT | {"image_std": [0.0, 0.0, 0.0]}, "--std must be positive"),
        ({key: value for key, value in VIT.items() if key != "image_mean"}, "KeyError: 'image_mean'"),
        (VIT | {"size": {"longest_edge": 32}}, "KeyError: 'height'"),
        (VIT | {"size": "large"}, "ValueError"),
        ([1], "no JSON object"),
    ],
)
def test_files_that_ask_for_something_else(transform, config, message):
    with pytest.raises(OptionError, match=message) as caught:
        transform(config, photo())
    assert "preprocessor_config.json" in str(caught.value) and "--mean" in str(caught.value)


def test_no_json(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(OptionError, match="cannot be understood"):
        read_preprocessor_config(tmp_path / "preprocessor_config.json")


@pytest.mark.parametrize("name", ["ViTImageProcessor", "DeiTImageProcessor", "CLIPImageProcessor"])
def test_against_transformers(transform, name):
    """The processors themselves; their slow spelling is the one on Pillow."""
    transformers = pytest.importorskip("transformers")
    processor_class = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    config = {"ViTImageProcessor": VIT, "DeiTImageProcessor": DEIT, "CLIPImageProcessor": CLIP}[name]
    processor = processor_class(**{key: value for key, value in config.items() if key != "image_processor_type"})
    expected = np.asarray(processor(photo(), return_tensors="np")["pixel_values"])[0]
    np.testing.assert_allclose(transform(config, photo()), expected, atol=2e-5)
