"""The recipe on a handful of images, and the architectures it trains."""

import numpy as np
import pytest

from qcompiler.errors import OptionError
from qcompiler.models import cifar10, cifar10_data, cifar10_models, cifar10_training
from qcompiler.models.cifar10_training import Recipe

from .test_cifar10_data import archive

QUICK = {"batch": 8, "warmup": 2, "matrix_rate": 0.01}


def halves(count, seed=0):
    """Two classes that differ in which half is bright."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    images = draw.integers(60, 120, (count, 3, 32, 32), dtype=np.uint8)
    images[labels == 0, :, :16] += 100
    images[labels == 1, :, 16:] += 100
    return cifar10_data.Labelled(images, labels)


def fresh(arch):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return cifar10_models.build(arch)


@pytest.mark.parametrize("arch", ["vit", "swin"])
def test_training_learns(timm, tmp_path, arch):
    lines = []
    data = halves(32)
    recipe = Recipe(epochs=6, **QUICK)
    model = cifar10_training.train(fresh(arch), recipe, data, tmp_path / "c", 8, lines.append)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert not model.training
    assert cifar10.top1(model, halves(40, seed=1)) > 80


def test_an_interrupted_training_gives_the_same_model(timm, tmp_path):
    torch = pytest.importorskip("torch")
    data, recipe = halves(24), Recipe(epochs=2, **QUICK)

    def stop(line):
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    whole = cifar10_training.train(fresh("vit"), recipe, data, tmp_path / "whole", 2, lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        cifar10_training.train(fresh("vit"), recipe, data, tmp_path / "parts", 2, stop)
    lines = []
    parts = cifar10_training.train(fresh("vit"), recipe, data, tmp_path / "parts", 2, lines.append)
    assert [line.split(":")[0] for line in lines] == ["step 6 of 6"]
    for (name, one), other in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_checkpoint_of_another_recipe_is_refused(timm, tmp_path):
    data, recipe = halves(8), Recipe(epochs=1, **QUICK)
    cifar10_training.train(fresh("vit"), recipe, data, tmp_path / "c", 1, lambda line: None)
    with pytest.raises(OptionError, match="another recipe"):
        cifar10_training.train(fresh("vit"), Recipe(epochs=1, seed=1, **QUICK), data, tmp_path / "c")
    with pytest.raises(OptionError, match="8 training images do not fill one batch of 128"):
        cifar10_training.train(fresh("vit"), Recipe(), data, tmp_path / "other")


def test_rates_rise_stay_and_fall():
    recipe = Recipe(epochs=2, batch=10, warmup=4, decay=0.5)
    assert recipe.steps(105) == 20
    found = [recipe.factor(step, 20) for step in range(21)]
    expected = [0.25, 0.5, 0.75, *[1.0] * 8, *np.arange(9, -1, -1) / 10]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("arch", ["vit", "swin"])
def test_architectures_are_small_transformers(timm, arch):
    torch = pytest.importorskip("torch")
    model = fresh(arch).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
    with torch.no_grad():
        assert model(torch.zeros(2, *cifar10_models.IMAGE)).shape == (2, cifar10_models.CLASSES)
    if arch == "swin":
        blocks = [block for layer in model.layers for block in layer.blocks]
        shifted = [any(size > 0 for size in block.shift_size) for block in blocks]
        assert shifted == [False, True, False, True, False, False]
        assert sum("downsample.reduction.weight" in name for name in model.state_dict()) == 2


def test_command_line(timm, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    import onnxruntime as ort

    archive(tmp_path / "train.npz", 20)
    archive(tmp_path / "test.npz", 7, seed=1)

    # The whole run with a model that has learnt nothing: training itself is tested above.
    def untrained(model, recipe, data, checkpoint, log):
        checkpoint.write_bytes(b"")
        return model.eval()

    monkeypatch.setattr(cifar10, "train", untrained)
    out = tmp_path / "out"
    out.mkdir()
    assert cifar10.main(["--arch", "swin", "--out", str(out), "--data", str(tmp_path), "--seed", "3"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["cifar10_swin.onnx", "cifar10_swin.safetensors"]
    told = capsys.readouterr().out
    assert "on 7 test images" in told

    # The exported model computes what the shipped weights say.
    images = cifar10_data.read_images(tmp_path / "test.npz")
    values = cifar10_data.normalise(torch.from_numpy(images.images))
    session = ort.InferenceSession(str(out / "cifar10_swin.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": values.numpy()})[0]
    with torch.no_grad():
        expected = cifar10.restore("swin", out / "cifar10_swin.safetensors")(values).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)

    again = ["--arch", "swin", "--out", str(tmp_path / "again"), "--weights", str(out / "cifar10_swin.safetensors")]
    assert cifar10.main([*again, "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out in told
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["cifar10_swin.onnx"]


def test_command_line_errors(tmp_path, capsys):
    assert cifar10.main(["--arch", "vit", "--out", str(tmp_path)]) == 2
    assert "give --data to train, or --weights to export" in capsys.readouterr().err
