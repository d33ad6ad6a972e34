"""The shipped model keeps its promises, and the recipe is what made it."""

from importlib.resources import as_file, files

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.labelled import open_labelled
from qcompiler.calibration.readers import open_calibration
from qcompiler.evaluation.accuracy import measure_accuracy
from qcompiler.evaluation.runs import first_output
from qcompiler.models import digits
from qcompiler.models.digits_vit import DigitsConfig, build

CONFIG = DigitsConfig()
INPUTS = [ModelInput("input", ("batch", CONFIG.channels, CONFIG.image, CONFIG.image))]


@pytest.fixture(scope="module")
def shipped():
    """The folder of the installed package."""
    with as_file(files("qcompiler.models")) as folder:
        yield folder


def test_shipped_model_reads_what_its_files_hold(shipped):
    path = shipped / "digits_vit.onnx"
    assert path.stat().st_size < 2_000_000
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ((entry,), (result,)) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.shape) == ("input", list(INPUTS[0].shape))
    assert (result.name, result.shape) == ("logits", ["batch", CONFIG.classes])


def test_shipped_model_is_accurate_on_images_it_never_saw(shipped):
    session = ort.InferenceSession(str(shipped / "digits_vit.onnx"), providers=["CPUExecutionProvider"])
    images = open_labelled(shipped / "digits_vit.eval.npz", INPUTS, batch=50)
    (accuracy,) = measure_accuracy({"float": first_output(session)}, images)
    assert accuracy.images == 450
    assert accuracy.top1 >= 97.5


def test_calibration_file_is_found_and_apart_from_evaluation(shipped):
    source = open_calibration(None, INPUTS, model_path=shipped / "digits_vit.onnx")
    assert (source.kind, source.count, source.warning) == ("npz", 256, None)
    seen = {feed["input"].tobytes() for feed in source.reader}
    with np.load(shipped / "digits_vit.eval.npz") as arrays:
        held_out = {image.tobytes() for image in arrays["input"]}
        counts = np.bincount(arrays["labels"])
    assert not seen & held_out
    assert counts.min() >= 43  # every digit, evenly
    for name in ("digits_vit.calib.npz", "digits_vit.eval.npz"):
        assert (shipped / name).stat().st_size < 600_000


def test_split_is_the_one_of_the_shipped_files(shipped):
    pytest.importorskip("sklearn")
    recipe = digits.Recipe()
    data = digits.load_digits(recipe, CONFIG.image)
    assert len(data.train_images) + len(data.held_out_images) == 1797
    assert not {i.tobytes() for i in data.train_images} & {i.tobytes() for i in data.held_out_images}
    with np.load(shipped / "digits_vit.eval.npz") as arrays:
        np.testing.assert_array_equal(arrays["input"], data.held_out_images)
        np.testing.assert_array_equal(arrays["labels"], data.held_out_labels)
    with np.load(shipped / "digits_vit.calib.npz") as arrays:
        np.testing.assert_array_equal(arrays["input"], data.train_images[: recipe.calibration_images])


def test_images_are_what_preset_half_makes_of_a_picture():
    pytest.importorskip("sklearn")
    images = digits.load_digits(digits.Recipe(), CONFIG.image).train_images
    pixels = (images + 1) / 2 * 255
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-3)
    assert images.min() == -1
    assert images.dtype == np.float32


@pytest.mark.slow
def test_training_is_reproducible_and_learns():
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(0)
    # Two classes that differ in which half is bright.
    labels = draw.integers(0, 2, 64)
    images = draw.uniform(-0.2, 0.2, (64, 1, 8, 8)).astype(np.float32)
    images[labels == 0, :, :4] += 0.7
    images[labels == 1, :, 4:] += 0.7
    data = digits.Digits(images, labels, images, labels)
    config = DigitsConfig(image=8, dim=16, depth=1, heads=2, classes=2)
    recipe = digits.Recipe(epochs=30, batch=8, learning_rate=3e-3)
    lines = []
    first, again = (digits.train(config, recipe, data, lines.append) for _ in range(2))
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert digits.top1(first, images, labels) > 95
    assert lines[:3] == lines[3:]
    assert len(lines) == 6


def test_architecture_is_timm_vision_transformer(timm):
    torch = pytest.importorskip("torch")
    ours = build(CONFIG).eval()
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=CONFIG.image,
        patch_size=CONFIG.patch,
        in_chans=CONFIG.channels,
        embed_dim=CONFIG.dim,
        depth=CONFIG.depth,
        num_heads=CONFIG.heads,
        num_classes=CONFIG.classes,
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(3, CONFIG.channels, CONFIG.image, CONFIG.image)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_command_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    # The whole run with a model that has learnt nothing: training itself is tested above.
    monkeypatch.setattr(digits, "train", lambda config, recipe, data, log: build(config).eval())
    assert digits.main([str(tmp_path / "new"), "--seed", "3"]) == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["digits_vit.calib.npz", "digits_vit.eval.npz", "digits_vit.onnx"]
    assert "on 450 held-out images" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    assert digits.main([str(tmp_path / "file" / "x")]) == 2
    assert "cannot be written" in capsys.readouterr().err
