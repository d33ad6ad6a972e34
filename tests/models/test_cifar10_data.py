"""Reading, splitting and augmenting CIFAR-10, on archives made here."""

import io

import numpy as np
import pytest
from PIL import Image

from qcompiler.errors import CalibrationDataError
from qcompiler.models import cifar10_data as data


def archive(path, count=6, size=32, seed=0):
    """JPEG files of smooth random pictures as the recipe reads them; returns their pixels [n, rows, columns, 3]."""
    draw = np.random.default_rng(seed)
    files, decoded = [], []
    for _ in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=90)
        files.append(buffer.getvalue())
        decoded.append(np.asarray(Image.open(buffer)))
    offsets = np.cumsum([0, *map(len, files)])
    jpeg = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, jpeg=jpeg, offsets=offsets, labels=np.arange(count, dtype=np.uint8) % 10)
    return np.stack(decoded)


def test_images_are_read(tmp_path):
    decoded = archive(tmp_path / "train.npz")
    found = data.read_images(tmp_path / "train.npz")
    assert (found.images.dtype, found.labels.dtype, len(found)) == (np.uint8, np.int64, 6)
    np.testing.assert_array_equal(found.images.transpose(0, 2, 3, 1), decoded)
    np.testing.assert_array_equal(found.labels, range(6))


@pytest.mark.parametrize("fault", ["missing", "arrays", "size", "text", "bytes"])
def test_a_bad_archive_is_one_line(tmp_path, fault):
    path = tmp_path / "train.npz"
    if fault == "arrays":
        np.savez(path, images=np.zeros(3))
    elif fault == "size":
        archive(path, size=16)
    elif fault == "text":
        path.write_text("no archive")
    elif fault == "bytes":
        np.savez(path, jpeg=np.zeros(20, np.uint8), offsets=[0, 10, 20], labels=[0, 1])
    with pytest.raises(CalibrationDataError, match=r"train\.npz: cannot be read as CIFAR-10") as caught:
        data.read_images(path)
    assert "\n" not in str(caught.value)


def test_split_is_stratified_and_loses_nothing():
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    whole = data.Labelled(images, np.repeat(np.arange(3), 20))
    train, held_out = data.split(whole, 4, seed=5)
    np.testing.assert_array_equal(np.bincount(held_out.labels), [4, 4, 4])
    label_of = {image.tobytes(): label for image, label in zip(images, whole.labels, strict=True)}
    found = [
        (image.tobytes(), label)
        for part in (train, held_out)
        for image, label in zip(part.images, part.labels, strict=True)
    ]
    assert len(found) == 60
    assert dict(found) == label_of
    assert (np.diff(train.labels) < 0).any()  # in random order
    again = data.split(whole, 4, seed=5)[1]
    np.testing.assert_array_equal(again.images, held_out.images)
    assert (data.split(whole, 4, seed=6)[1].images != held_out.images).any()


def test_normalised_images_are_those_of_preset_half():
    torch = pytest.importorskip("torch")
    pixels = np.arange(256, dtype=np.uint8)
    found = data.normalise(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, (pixels / 255.0 - 0.5) / 0.5, atol=1e-6)
    assert found.dtype == np.float32


def test_augmented_images_are_moved_and_mirrored():
    torch = pytest.importorskip("torch")
    count, margin = 200, data.MARGIN
    images = np.random.default_rng(2).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    generator = torch.Generator().manual_seed(7)
    found = data.augment(torch.from_numpy(images).repeat(count, 1, 1, 1), generator).numpy()
    variants = {}
    for mirrored in (False, True):
        padded = np.pad(images[0], ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
        for top in range(2 * margin + 1):
            for left in range(2 * margin + 1):
                crop = padded[:, top : top + 32, left : left + 32]
                variants[(crop[:, :, ::-1] if mirrored else crop).tobytes()] = (mirrored, top, left)
    assert len(variants) == 2 * (2 * margin + 1) ** 2
    drawn = [variants[image.astype(np.uint8).tobytes()] for image in found]
    mirrored, tops, lefts = map(np.array, zip(*drawn, strict=True))
    assert 70 <= mirrored.sum() <= 130
    assert set(tops) == set(lefts) == set(range(2 * margin + 1))
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.3  # drawn one by one
