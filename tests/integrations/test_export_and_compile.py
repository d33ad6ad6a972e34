"""`export_and_compile` against the torch module that it was given."""

import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest

import qcompiler
from qcompiler import CompileOptions
from qcompiler.errors import CalibrationDataError, OptionError

torch = pytest.importorskip("torch")

from .vit import TinyViT  # noqa: E402

FLOAT = CompileOptions(stop_after="canonicalise")
QUANTIZED = CompileOptions(bits="w8a8", effort="low", executor="inline", threads=1)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return TinyViT()


@pytest.fixture
def pixels():
    return torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def logits(model, images):
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    return onnxruntime.InferenceSession(source).run(None, {"input": images.numpy()})[0]


def expected(module, images):
    with torch.no_grad():
        return module.eval()(images).numpy()


def test_float_model_is_the_module_in_evaluation_mode(module, pixels):
    """With a free batch, though the example holds one image; and the module stays as it was."""
    module.train()
    module.norm1.eval()  # a part that its owner froze
    result = qcompiler.export_and_compile(module, pixels[:1], pixels, FLOAT)
    assert module.training and module.dropout.training and not module.norm1.training
    assert result.report.calibration["kind"] == "reader"
    np.testing.assert_allclose(logits(result.model, pixels), expected(module, pixels), atol=1e-5)


def test_compiled_file(module, pixels, tmp_path):
    """Calibrated by a DataLoader with labels, written, and close to the module at 8 bits."""
    data = torch.utils.data.TensorDataset(pixels, torch.zeros(len(pixels)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    output = tmp_path / "vit.onnx"
    result = qcompiler.export_and_compile(module, (pixels[:1],), loader, QUANTIZED, output=output)
    assert result.report.layers
    reference = expected(module, pixels)
    error = np.square(logits(output, pixels) - reference).sum() / np.square(reference).sum()
    assert 0 < error < 0.01  # zero would be a float model


def test_program(module, pixels):
    """What `torch.onnx.export` returns, with its own input name and batch."""
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("torch's dynamo exporter needs onnxscript")
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.onnx.export(
        module.eval(), (pixels[:2],), dynamo=True, dynamic_shapes=(batch,), input_names=["input"], verbose=False
    )
    result = qcompiler.export_and_compile(program, calibration=pixels, options=FLOAT)
    np.testing.assert_allclose(logits(result.model, pixels), expected(module, pixels), atol=1e-5)


def test_what_cannot_be_exported(module, pixels):
    with pytest.raises(OptionError, match=r"'Tensor' cannot be exported: give a torch\.nn\.Module"):
        qcompiler.export_and_compile(pixels, pixels, pixels, FLOAT)
    with pytest.raises(OptionError, match="one tensor"):
        qcompiler.export_and_compile(module, (pixels, pixels), pixels, FLOAT)
    with pytest.raises(OptionError, match="one tensor"):
        qcompiler.export_and_compile(module, None, pixels, FLOAT)


def test_data_that_can_be_read_only_once(module, pixels):
    with pytest.raises(CalibrationDataError, match="images are read more than once"):
        qcompiler.export_and_compile(module, pixels[:1], iter([pixels]), FLOAT)
