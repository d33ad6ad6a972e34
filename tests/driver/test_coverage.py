"""What share of the multiply-accumulates is quantized, against counts by hand."""

import numpy as np
import onnx
import pytest

from qcompiler.driver import compile_model
from qcompiler.driver.canonical import canonicalise
from qcompiler.driver.coverage import measure_coverage
from qcompiler.errors import CollapseError
from qcompiler.report.metadata import read_report

from .runs import fast
from .tiny import images, tiny

# Of the tiny model: 4 tokens, 16 channels, 2 heads of 8, hidden 32, 5 classes.
BY_HAND = 4 * 16 * 16 + 4 * 16 * 48 + 2 * (2 * 4 * 4 * 8) + 4 * 16 * 16 + 2 * (4 * 16 * 32) + 16 * 5

ATTENTION = """<ir_version: 8, opset_import: ["": 17]>
front (float[n, 1, 8, 8] image) => (float[n, 1, 8, 8] x) {
fs = MatMul (image, image)  gate = Sigmoid (image)  fg = Mul (fs, gate)  fp = Softmax <axis = -1> (fg)
x = MatMul (fp, image)
}"""
GRAM = """<ir_version: 8, opset_import: ["": 17]>
front (float[n, 1, 8, 8] image) => (float[n, 1, 8, 8] x) { x = MatMul (image, image) }"""
EINSUM = """<ir_version: 8, opset_import: ["": 17]>
front (float[n, 1, 8, 8] image) => (float[n, 1, 8, 8] x) {
x = Einsum <equation = "nchw,nckw->nchk"> (image, image)
}"""


def convolutions(channels):
    """7 x 7 convolutions from one channel to some, in groups of one, and back, transposed."""
    draw = np.random.default_rng(5)
    front = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        front (float[n, 1, 8, 8] image) => (float[n, 1, 8, 8] x) {{
        f1 = Conv <kernel_shape = [7, 7], pads = [3, 3, 3, 3]> (image, wa)
        f2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = {channels}> (f1, wb)
        x = ConvTranspose <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (f2, wc)
        }}"""
    )
    weights = {"wa": (channels, 1, 7, 7), "wb": (channels, 1, 3, 3), "wc": (channels, 1, 3, 3)}
    front.graph.initializer.extend(
        onnx.numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32) / 7, name)
        for name, shape in weights.items()
    )
    return front


def behind(front):
    """The tiny model behind another one."""
    if isinstance(front, str):
        front = onnx.parser.parse_model(front)
    for node in front.graph.node:
        node.name = f"front_{node.output[0]}"
    return onnx.compose.merge_models(front, tiny(), io_map=[("x", "x")])


class Reader:
    """Images under the name that the merged models read."""

    def __init__(self, count=8):
        self.feeds = [{"image": image[None]} for image in images(count)]
        self.rewind()

    def get_next(self):
        return next(self.rest, None)

    def rewind(self):
        self.rest = iter(self.feeds)


def test_everything_is_quantized(compiled):
    coverage = compiled(bits="w8a8").report.coverage
    assert (coverage.macs, coverage.quantized, coverage.left) == (BY_HAND, BY_HAND, ())
    assert compiled(bits="w8a8").report.warnings == ()


@pytest.mark.parametrize("batch", ["n", 8], ids=["free", "fixed"])
def test_counts_are_those_of_one_image(batch):
    canonical = canonicalise(tiny(batch))
    coverage = measure_coverage(canonical.model, canonical.structure, ())
    assert (coverage.macs, coverage.quantized) == (BY_HAND, 0)
    assert sum(item.macs for item in coverage.left) == BY_HAND


@pytest.mark.parametrize(
    ("front", "macs", "reason"),
    [
        (ATTENTION, [512, 512], "attention: "),
        (GRAM, [512], "product of two computed tensors"),
        (EINSUM, [512], "product of two computed tensors"),
        (convolutions(2), [64 * 2 * 49, 64 * 2 * 9, 64 * 2 * 9], "convolution"),
    ],
    ids=["attention", "product", "einsum", "convolutions"],
)
def test_what_stays_in_float_has_a_reason(front, macs, reason):
    result = compile_model(behind(front), fast(bits="w8a8", method="igq"), Reader())
    coverage = result.report.coverage
    assert (coverage.macs, coverage.quantized) == (BY_HAND + sum(macs), BY_HAND)
    assert [item.macs for item in coverage.left] == macs
    assert all(reason in item.reason for item in coverage.left)
    assert {item.name for item in coverage.left} <= {node.name for node in result.model.graph.node}
    assert read_report(result.model).coverage == coverage


def test_a_warning_below_one_half():
    front = convolutions(8)
    macs = 64 * 8 * (49 + 9 + 9)
    report = compile_model(behind(front), fast(bits="w8a8", method="igq"), Reader()).report
    (warning,) = (text for text in report.warnings if "multiply-accumulates" in text)
    assert f"only {int(1000 * BY_HAND / (BY_HAND + macs)) / 10} %" in warning
    assert "convolution" in warning


@pytest.fixture
def collapsed(monkeypatch):
    """Compilations whose model predicts the class that the float one finds least likely."""
    import qcompiler.driver.compile as compiling

    float_outputs = compiling.float_outputs
    made = []

    def turned(session):
        run = float_outputs(session)
        made.append(run)
        return run if len(made) % 2 else lambda feed: {name: -3 * values for name, values in run(feed).items()}

    monkeypatch.setattr(compiling, "float_outputs", turned)


def test_a_collapse_is_an_error(tiny_path, tmp_path, collapsed):
    saved = {"save_stats": tmp_path / "s.npz", "save_plan": tmp_path / "p.json"}
    with pytest.raises(CollapseError, match=r"0\.0 % of 16 calibration images.*--allow-collapse"):
        compile_model(tiny_path, fast(bits="w8a8", method="igq", **saved), output=tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_collapse_that_is_allowed(tiny_path, tmp_path, collapsed):
    options = fast(bits="w8a8", method="igq", allow_collapse=True)
    report = compile_model(tiny_path, options, output=tmp_path / "out.onnx").report
    assert report.agreement["agreement"] == 0
    assert any("has collapsed" in text for text in report.warnings)
    assert (tmp_path / "out.onnx").is_file()


def test_a_collapse_of_an_output_without_classes(tiny_path, collapsed):
    """The output is a map: its relative error counts, and what its largest element is does not."""
    model = onnx.load(tiny_path)
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["logits", "last"], ["map"], "map"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2], np.int64), "last"))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, ["n", 5, 1]))
    with pytest.raises(CollapseError, match=r"relative error is (3\.9|4\.0)"):
        compile_model(model, fast(bits="w8a8", method="igq"), tiny_path.with_name("tiny.calib.npz"))
