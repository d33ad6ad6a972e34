"""Compilations of a tiny transformer, end to end."""

import hashlib
import json
from collections import Counter

import numpy as np
import onnx
import pytest

from qcompiler.calibration.readers import NpzReader
from qcompiler.driver import compile_model
from qcompiler.driver.canonical import model_inputs
from qcompiler.report.metadata import read_layer, read_report

from .runs import LIBRARY, fast, native, needs_library, plain, relative
from .tiny import images, save, tiny

FEED = {"x": images(32, seed=9)}
FLOAT = plain(tiny(), FEED)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        # Measured on this model, with room for other processors and versions of ONNX Runtime.
        ({"bits": "w8a8"}, 0.06),
        ({"bits": "w6a6"}, 0.12),
        ({"bits": "w4a4"}, 0.4),
        ({"bits": "w4a4", "strict_bits": True}, 0.4),
        ({"bits": "w4a4", "method": "igq"}, 0.4),
        ({"bits": "w4a4", "method": "igq", "groups": "exact"}, 0.4),
        ({"method": "mixq"}, 0.4),
        ({"method": "lrp"}, 0.4),
        ({"effort": "low"}, 0.4),
    ],
)
def test_close_to_float(compiled, options, error):
    model = compiled(**options).model
    onnx.checker.check_model(model, full_check=True)
    assert relative(plain(model, FEED), FLOAT) < error


def test_more_bits_are_closer(compiled):
    errors = [relative(plain(compiled(bits=bits).model, FEED), FLOAT) for bits in ("w8a8", "w6a6", "w4a4", "w2a2")]
    assert errors == sorted(errors)


@needs_library
@pytest.mark.parametrize(
    "options",
    [
        {"bits": "w8a8"},
        {"bits": "w4a4"},
        {"bits": "w4a8"},
        {"bits": "w4a4", "strict_bits": True},
        {"bits": "w4a4", "method": "igq"},
        {"bits": "w4a4", "method": "igq", "groups": "exact"},
        {"method": "mixq"},
    ],
)
def test_kernels_compute_what_the_bodies_say(compiled, options):
    """The integers are the same; sums in float32 may round differently and flip a code now and then."""
    model = compiled(**options).model
    expected, found = plain(model, FEED), native(model, FEED)
    rows = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    assert (rows < 1e-5).mean() > 0.8
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"bits": "w8a8"},
        {"bits": "w4a4"},
        {"bits": "w4a4", "strict_bits": True},
        {"bits": "w4a4", "method": "igq"},
        {"bits": "w4a4", "method": "igq", "groups": "exact"},
        {"method": "mixq"},
    ],
)
def test_the_readable_graph_is_the_lowered_one(compiled, options):
    """Both without the library. The same integers, in another order of float operations."""
    readable = compiled(**options, stop_after="quantize").model
    lowered = compiled(**options).model
    assert relative(plain(readable, FEED), plain(lowered, FEED)) < 0.02


def test_canonical_graph(compiled):
    result = compiled(stop_after="canonicalise")
    assert relative(plain(result.model, FEED), FLOAT) < 1e-5
    assert {node.domain for node in result.model.graph.node} <= {""}
    assert not result.model.functions
    assert result.report.layers == ()
    assert result.report.agreement is None
    assert result.report.bops.fraction_of_w8a8 == 0.25  # what the default budget would choose


def test_operators_of_the_stages(compiled):
    options = {"method": "igq", "bits": "w4a4"}
    readable = Counter(node.op_type for node in compiled(**options, stop_after="quantize").model.graph.node)
    assert readable["GroupQuantizeLinear"] == readable["GroupSort"] == 6 + 4
    assert readable["DequantizeLinear"] == 6
    assert readable["Softmax"] == 1
    lowered = [node.op_type for node in compiled(**options).model.graph.node if node.domain == "qcompiler"]
    assert sorted(lowered) == [
        "GroupAttention",
        "GroupLinear",
        "GroupLinear",
        "GroupLinearAdd",
        "GroupLinearAdd",
        "LayerNormGroupLinear",
        "LayerNormGroupLinearGelu",
    ]
    model = compiled(**options).model
    assert {function.name for function in model.functions} >= set(lowered)
    assert {(item.domain, item.version) for item in model.opset_import} == {("", 21), ("qcompiler", 1)}


def test_operators_of_the_default_method(wide):
    """Blocks of each token; 8 bits of patch embedding and head stay with groups."""
    readable = Counter(node.op_type for node in wide(bits="w4a4", stop_after="quantize").model.graph.node)
    assert readable["BlockQuantizeLinear"] == 4 + 3  # queries, keys and values
    assert readable["GroupQuantizeLinear"] == 2 + 1  # the probabilities too
    model = wide(bits="w4a4").model
    lowered = [node.op_type for node in model.graph.node if node.domain == "qcompiler"]
    assert sorted(lowered) == [
        "BlockAttention",
        "BlockLinearAdd",
        "BlockLinearAdd",
        "GroupLinear",
        "GroupLinear",
        "LayerNormBlockLinear",
        "LayerNormBlockLinearGelu",
    ]
    assert {function.name for function in model.functions} >= set(lowered)


@pytest.mark.parametrize("stage", ["quantize", "lower"])
def test_narrow_weights_are_stored_as_int4(compiled, stage):
    types = {
        tensor.name: tensor.data_type
        for tensor in compiled(bits="w4a4", stop_after=stage).model.graph.initializer
        if tensor.name.endswith("weight_quantized")
    }
    narrow = [name for name, data_type in types.items() if data_type == onnx.TensorProto.INT4]
    wide = [name for name, data_type in types.items() if data_type == onnx.TensorProto.INT8]
    assert (len(narrow), len(wide)) == (4, 2)
    assert all(name.startswith(("patch.proj", "head")) for name in wide)


@pytest.mark.parametrize(("bits", "data_type"), [("w3a4", "INT4"), ("w8a8", "INT8"), ("w6a4", "INT8")])
def test_storage_of_other_widths(compiled, bits, data_type):
    tensors = {tensor.name: tensor.data_type for tensor in compiled(bits=bits).model.graph.initializer}
    (found,) = [kind for name, kind in tensors.items() if name.startswith("mlp.fc1.weight_quantized")]
    assert found == onnx.TensorProto.DataType.Value(data_type)


def test_exact_groups_are_segments(compiled):
    options = {"method": "igq", "bits": "w4a4"}
    schemes = {layer.name: layer.scheme for layer in compiled(**options, groups="exact").report.layers}
    assert "segments" in schemes.values()
    assert "segments" not in {layer.scheme for layer in compiled(**options).report.layers}
    for node in compiled(**options, groups="exact").model.graph.node:
        segments = [attribute.i for attribute in node.attribute if attribute.name == "segments"]
        if segments:
            assert segments == [int(schemes[node.name] == "segments")]


def test_the_default_is_the_cost_of_w4a4(compiled):
    assert 0.2 < compiled().report.bops.fraction_of_w8a8 <= 0.25
    uniform = compiled(method="igq").report
    assert (uniform.widths, uniform.bops.fraction_of_w8a8) == ("w4a4", 0.25)


def test_the_budget_chooses_the_widths(compiled):
    assert compiled(method="igq", bop_budget=0.6).report.widths == "w6a6"
    assert 0.5 < compiled(bop_budget=0.6).report.bops.fraction_of_w8a8 <= 0.6


def test_bookkeeping_keeps_to_its_budget(compiled):
    report = compiled(method="igq", bits="w4a4", overhead_budget=0.2).report
    generous = compiled(method="igq", bits="w4a4").report
    assert report.bops.overhead <= 0.2 < generous.bops.overhead
    assert sum(layer.bookkeeping for layer in report.layers if not layer.fixed) == report.bops.bookkeeping


def test_report_adds_up(compiled):
    """By hand: 4 tokens of 16 channels, hidden 32, 2 heads of 8."""
    report = compiled(bits="w4a4").report
    products = 4 * 16 * 48 + 4 * 16 * 16 + 2 * 4 * 16 * 32 + 2 * 2 * 4 * 8 * 4
    assert report.bops.products == products * 16
    assert sum(layer.products for layer in report.layers if not layer.fixed) == report.bops.products
    fixed = 4 * 16 * 16 + 16 * 5
    bookkeeping = sum(layer.bookkeeping for layer in report.layers if layer.fixed)
    assert report.bops.fixed == fixed * 64 + bookkeeping
    assert report.bops.float32 == (products + fixed) * 1024
    kinds = [layer.kind for layer in report.layers]
    assert kinds == ["patch_embed", "qkv", "attention", "proj", "fc1", "fc2", "head"]  # graph order
    assert report.bytes_before == tiny().ByteSize()
    assert report.calibration["count"] == report.agreement["images"] == 16


@pytest.mark.parametrize("bits", [4, 8])
def test_first_and_last_bits(tiny_path, compiled, bits):
    result = compiled(bits="w6a6", first_last_bits=bits)
    widths = {layer.name: (layer.weight_bits, layer.activation_bits) for layer in result.report.layers}
    assert widths["patch.proj"] == widths["head"] == (bits, bits)
    assert widths["mlp.fc1"] == (6, 6)


def test_agreement_is_measured_on_the_calibration_images(tiny_path, compiled):
    result = compiled(bits="w4a4")
    reader = NpzReader(tiny_path.with_name("tiny.calib.npz"), model_inputs(tiny()), 16)
    feeds = [feed["x"] for feed in reader]
    assert len(feeds) == 16
    seen = {"x": np.concatenate(feeds)}
    expected, found = plain(tiny(), seen), (native if LIBRARY else plain)(result.model, seen)
    same = 100 * (expected.argmax(1) == found.argmax(1)).mean()
    assert result.report.agreement["agreement"] == pytest.approx(same, abs=100 / 16 + 1e-6)
    assert result.report.agreement["relative_error"] == pytest.approx(relative(found, expected), rel=0.2)


@pytest.mark.parametrize("stage", ["canonicalise", "quantize", "lower"])
def test_equal_input_and_options_give_equal_bytes(tiny_path, tmp_path, stage):
    written = []
    for name in ("a.onnx", "b.onnx"):
        compile_model(tiny_path, fast(bits="w4a4", stop_after=stage), output=tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_path_and_model_in_memory_give_equal_bytes(tiny_path, compiled):
    data = tiny_path.with_name("tiny.calib.npz")
    result = compile_model(onnx.load(tiny_path), fast(bits="w4a4"), data)
    expected = compile_model(tiny_path, fast(bits="w4a4"), data)
    assert result.model.SerializeToString(deterministic=True) == expected.model.SerializeToString(deterministic=True)


def test_input_is_not_touched(tmp_path):
    path = save(tmp_path)
    names = sorted(item.name for item in tmp_path.iterdir())
    before = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names]
    compile_model(path, fast(bits="w4a4"))
    assert sorted(item.name for item in tmp_path.iterdir()) == names
    assert [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names] == before
    model = onnx.load(path)
    content = model.SerializeToString()
    compile_model(model, fast(bits="w4a4"), tmp_path / "tiny.calib.npz")
    assert model.SerializeToString() == content


def test_written_file_is_the_result(tiny_path, tmp_path):
    path = tmp_path / "out.onnx"
    result = compile_model(tiny_path, fast(bits="w4a4"), output=path)
    assert [item.name for item in tmp_path.iterdir()] == ["out.onnx"]
    assert onnx.load(path) == result.model
    assert result.report.bytes_after == result.model.ByteSize()


def test_statistics_from_a_file_give_the_same_bytes(tiny_path, tmp_path):
    stats = tmp_path / "stats.npz"
    written = []
    for options in ({}, {"save_stats": stats}, {"stats": stats}):
        result = compile_model(tiny_path, fast(bits="w4a4", **options))
        written.append(result.model.SerializeToString(deterministic=True))
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("batch", [1, 8])
def test_fixed_batch(tmp_path, batch):
    path = save(tmp_path, batch, count=20)
    result = compile_model(path, fast(bits="w8a8", images=20))
    (dim, *_) = result.model.graph.input[0].type.tensor_type.shape.dim
    assert dim.dim_value == batch
    starts = range(0, 8, batch)
    found = np.concatenate([plain(result.model, {"x": FEED["x"][start : start + batch]}) for start in starts])
    assert relative(found, FLOAT[:8]) < 0.1
    assert result.report.calibration["count"] == result.report.agreement["images"] == 20


def test_bit_operations_are_per_image(tmp_path, compiled):
    fixed = compile_model(save(tmp_path, 8), fast(bits="w8a8")).report.bops
    free = compiled(bits="w8a8").report.bops
    assert (fixed.products, fixed.products_w8a8, fixed.float32) == (free.products, free.products_w8a8, free.float32)


def test_report_in_the_metadata(compiled):
    result = compiled(bits="w4a4")
    (entry,) = [item for item in result.model.metadata_props if item.key == "qcompile.report"]
    held = json.loads(entry.value)
    assert (held["widths"], held["method"]) == ("w4a4", "auto")
    assert "seconds" not in held  # equal compilations write equal bytes
    found = read_report(result.model)
    assert found.layers == result.report.layers
    assert found.bops == result.report.bops
    assert found.options == result.report.options


@pytest.mark.parametrize("method", ["auto", "igq"])
def test_every_layer_is_annotated_on_a_node(compiled, method):
    result = compiled(bits="w4a4", method=method)
    held = [layer for node in result.model.graph.node if (layer := read_layer(node)) is not None]
    assert sorted(held, key=lambda layer: layer.name) == sorted(result.report.layers, key=lambda layer: layer.name)


def test_progress_is_told(tiny_path):
    class Recorder:
        def __init__(self):
            self.stages, self.steps = {}, Counter()

        def stage(self, name, total=None):
            self.last = name
            self.stages[name] = total

        def advance(self, steps=1):
            self.steps[self.last] += steps

    told = Recorder()
    compile_model(tiny_path, fast(bits="w4a4"), progress=told)
    assert told.stages["calibrate"] == told.steps["calibrate"] == 16
    assert told.stages["fit quantizers"] == told.steps["fit quantizers"] == 5
    assert told.stages["measure sensitivity"] == told.steps["measure sensitivity"] == 2 * 4 + 4
    complete = ("fit", "measure", "try", "quantize weights")
    assert all(told.steps[name] == total for name, total in told.stages.items() if name.startswith(complete))
    assert set(told.stages) >= {"fit quantizers", "try plans out", "quantize weights"}


def test_synthetic_images_are_a_warning(tmp_path):
    onnx.save(tiny(), tmp_path / "alone.onnx")
    report = compile_model(tmp_path / "alone.onnx", fast(bits="w8a8")).report
    assert report.calibration["kind"] == "synthetic"
    assert any("synthetic" in warning for warning in report.warnings)


def test_verify_each_changes_nothing(tiny_path, compiled):
    checked = compile_model(tiny_path, fast(bits="w4a4", verify_each=True)).model
    names = [(node.op_type, list(node.input)) for node in checked.graph.node]
    assert names == [(node.op_type, list(node.input)) for node in compiled(bits="w4a4").model.graph.node]
