"""Compilations with float16 activations: tiny transformers and the shipped model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import qcompiler.models
from qcompiler.cli.compile import build_parser, options_of
from qcompiler.driver import compile_model
from qcompiler.driver.activation_range import WatchedRun
from qcompiler.driver.annotate import finish
from qcompiler.driver.verification import Evidence, verify_file
from qcompiler.errors import NonFiniteError, OptionError
from qcompiler.ir.functions import function
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.passes.narrow_activations import NarrowActivations
from qcompiler.report.inspection import inspect_model
from qcompiler.report.metadata import read_report

from ..passes.helpers import model_of
from .runs import LIBRARY, fast, native, needs_library, plain, relative
from .tiny import images, save, tiny

SHIPPED = Path(qcompiler.models.__file__).parent
FEED = {"x": images(32, seed=9)}
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def element_types(values):
    return {item.name: item.type.tensor_type.elem_type for item in values}


def integers(model):
    """Names and values of the integer constants."""
    kinds = (onnx.TensorProto.INT4, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    held = (tensor for tensor in model.graph.initializer if tensor.data_type in kinds)
    return {tensor.name: onnx.numpy_helper.to_array(tensor).astype(int).tolist() for tensor in held}


# -- What is written


@pytest.mark.parametrize("options", [{"bits": "w4a4"}, {"bits": "w4a4", "method": "igq"}])
def test_tiny(compiled, options):
    """The same integers and scales; tensors between the operators in float16, and a Cast at either end."""
    wide, narrow = compiled(**options).model, compiled(**options, activations="float16").model
    onnx.checker.check_model(narrow, full_check=True)
    onnx.shape_inference.infer_shapes(narrow, strict_mode=True, data_prop=True)
    assert element_types([*narrow.graph.input, *narrow.graph.output]) == {"x": FLOAT, "logits": FLOAT}
    assert integers(narrow) == integers(wide)
    casts = [(node.input[0], node.output[0]) for node in narrow.graph.node if node.op_type == "Cast"]
    assert casts[0][0] == "x" and casts[1][1] == "logits" and len(casts) == 2
    own = {node.output[0] for node in narrow.graph.node if node.domain == "qcompiler"}
    types = element_types(narrow.graph.value_info)
    assert {types[name] for name in own} == {HALF}
    assert relative(plain(narrow, FEED), plain(wide, FEED)) < 0.1  # values on the edge of a code flip
    if LIBRARY:
        assert relative(native(narrow, FEED), plain(narrow, FEED)) < 0.1


def test_float32_is_what_it_was(compiled):
    """No casts, no other bodies, no option in the report."""
    found = compiled(bits="w4a4")
    assert not any(node.op_type in ("Cast", "CastLike") for node in found.model.graph.node)
    assert not any(node.op_type == "CastLike" for body in found.model.functions for node in body.node)
    assert "activations" not in found.report.options
    assert not any(item.name == "narrow_activations" for item in found.report.passes)


def test_the_file_tells(compiled):
    narrow = compiled(bits="w4a4", activations="float16")
    assert read_report(narrow.model).options["activations"] == "float16"
    assert inspect_model(narrow.model).activations == "float16"
    assert inspect_model(compiled(bits="w4a4").model).activations == "float32"
    assert inspect_model(tiny()).activations is None
    (ran,) = [item for item in narrow.report.passes if item.name == "narrow_activations"]
    assert ran.applied > 5
    wide, found = (inspect_model(item.model) for item in (compiled(bits="w4a4"), narrow))
    assert found.layers == wide.layers
    assert found.recount.fixed == wide.recount.fixed
    assert found.recount.fraction_of_w8a8 == wide.recount.fraction_of_w8a8 == 0.25


def test_verified(tiny_path, tmp_path):
    path = tmp_path / "narrow.onnx"
    compile_model(tiny_path, fast(bits="w4a4", activations="float16"), output=path)
    evidence = Evidence(against=tiny_path, calibration=str(tiny_path.with_name("tiny.calib.npz")))
    found = {check.name: check for check in verify_file(path, evidence, threads=1).checks}
    assert {check.status for name, check in found.items() if name != "kernels"} == {"ok"}
    assert found["kernels"].status == ("ok" if LIBRARY else "skipped")
    assert "for float16" in found["bodies"].text

    changed = onnx.load(path)
    body = next(item for item in changed.functions if item.name == "BlockLinearAdd")
    body.CopyFrom(function("BlockLinearAdd"))
    onnx.save(changed, path)
    failed = {check.name: check.text for check in verify_file(path, threads=1).checks if check.status == "failed"}
    assert "'BlockLinearAdd' is not that of" in failed["bodies"]


def test_same_bytes_twice(tiny_path):
    first, second = (
        compile_model(tiny_path, fast(bits="w4a4", activations="float16", effort="low", executor="inline"))
        for _ in range(2)
    )
    serial = [item.model.SerializeToString(deterministic=True) for item in (first, second)]
    assert serial[0] == serial[1]


@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_batch(tmp_path, batch):
    path = save(tmp_path, batch=batch)
    found = compile_model(path, fast(bits="w8a8", activations="float16")).model
    feed = {"x": images(batch, seed=5)}
    assert relative(plain(found, feed), plain(tiny(batch), feed)) < 0.1


# -- Plans and interrupted compilations


def test_saved_plan(tiny_path, tmp_path, compiled):
    """A plan of one kind of activations gives the same integers with the other."""
    plan = tmp_path / "plan.json"
    wide = compile_model(tiny_path, fast(bits="w4a4", save_plan=plan))
    narrow = compile_model(tiny_path, fast(bits_file=plan, activations="float16"))
    assert integers(narrow.model) == integers(wide.model)


def test_resume_takes_over_from_float32(tiny_path, tmp_path, monkeypatch):
    """What is measured does not depend on how it is written."""
    state, output = tmp_path / "state", tmp_path / "out.onnx"
    options = {"resume": state, "executor": "inline"}

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qcompiler.driver.compile.check_written", stopped)
        with pytest.raises(KeyboardInterrupt):
            compile_model(tiny_path, fast(**options), output=output)
    assert not output.exists()
    found = compile_model(tiny_path, fast(**options, activations="float16"), output=output)
    assert "the statistics" in found.resumed and "sensitivities" in found.resumed
    alone = compile_model(tiny_path, fast(executor="inline", activations="float16"))
    assert integers(found.model) == integers(alone.model)


# -- What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": "bfloat16"}, "--activations 'bfloat16' is unknown; choose one of float32, float16"),
        ({"activations": "float16", "stop_after": "quantize"}, "--activations float16 needs a lowered model"),
        ({"activations": "float16", "latency_budget": 0.5}, "leave --activations float16 out"),
    ],
)
def test_options(options, message):
    with pytest.raises(OptionError, match=message):
        fast(**options)


def test_command_line():
    parse = build_parser().parse_args
    assert options_of(parse(["model.onnx"])).activations == "float32"
    assert options_of(parse(["model.onnx", "--activations", "float16"])).activations == "float16"


def with_large_channel(folder, value):
    """The tiny model whose residual has one channel of that size, and its data."""
    path = save(folder)
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "fc2_bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[3] = value
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("value", [1e5, -1e5])
def test_activations_beyond_the_range(tmp_path, value):
    path = with_large_channel(tmp_path, value)
    options = {"bits": "w8a8", "allow_collapse": True}
    compile_model(path, fast(**options))
    with pytest.raises(NonFiniteError, match=r"node 'mlp.fc2' goes beyond .* \(65,504\).*--activations float32"):
        compile_model(path, fast(**options, activations="float16"), output=tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_activations_near_the_end_of_the_range(tmp_path):
    path = with_large_channel(tmp_path, 5e4)
    found = compile_model(path, fast(bits="w8a8", allow_collapse=True, activations="float16"))
    (warning,) = (text for text in found.report.warnings if "float16" in text)
    assert "'mlp.fc2' reaches 5" in warning and "65,504" in warning


MASKED = """agraph (float[batch, 4, 4] x) => (float[batch, 4, 4] y) {
    s = MatMul (x, w)  m = Add (s, mask)  r = Reshape (m, shape)  p = Softmax <axis = -1> (r)  y = MatMul (p, x) }"""


def watched(text, **constants):
    graph = to_graph(model_of(text, **constants))
    run_passes(graph, [NarrowActivations()])
    return WatchedRun(finish(graph), 1)


def test_masks_are_at_the_end_of_the_range():
    """-65504 and a negative score are -infinity, as it should be."""
    mask = np.triu(np.full((4, 4), -1e9, np.float32), 1)
    run = watched(MASKED, w=-40 * np.ones((4, 4), np.float32), mask=mask, shape=np.array([0, 4, 4]))
    found = run({"x": np.full((2, 4, 4), 3, np.float32)})
    assert np.isfinite(found["y"]).all() and run.warning() is None


def test_what_is_not_finite_is_found():
    run = watched(MASKED, w=np.ones((4, 4), np.float32), mask=np.zeros((4, 4), np.float32), shape=np.array([0, 4, 4]))
    for value in (3e4, np.nan):
        with pytest.raises(NonFiniteError, match="--activations float32"):
            run({"x": np.full((1, 4, 4), value, np.float32)})


# -- The shipped model


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits model, one plan with both types of activations, and the evaluation images."""
    folder = tmp_path_factory.mktemp("digits16")
    source, plan, output = SHIPPED / "digits_vit.onnx", folder / "plan.json", folder / "digits.onnx"
    wide = compile_model(source, fast(bits="w4a4", effort="low", overhead_budget=0.125, save_plan=plan))
    options = fast(bits_file=plan, overhead_budget=0.125, activations="float16")
    narrow = compile_model(source, options, output=output)
    with np.load(SHIPPED / "digits_vit.eval.npz") as held:
        feed = {"input": held["input"]}
    # Bodies are slow: every second image.
    bodies = plain(narrow.model, {"input": feed["input"][::2]})
    return SimpleNamespace(wide=wide.model, narrow=narrow.model, feed=feed, bodies=bodies, output=output)


# Of the logits: a rounding to float16 moves values over the edge between two codes of 4 bits, and 0.04 is what that
# makes. Sessions with and without the library differ likewise: ONNX Runtime leaves roundings between its own operators
# out on the CPU, and does so in other places where it knows the bodies.
FLIPS = 0.08


def test_digits_without_the_library(digits):
    expected = plain(digits.wide, {"input": digits.feed["input"][::2]})
    assert digits.bodies.dtype == np.float32
    assert (digits.bodies.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert relative(digits.bodies, expected) < FLIPS


@needs_library
def test_digits_with_the_library(digits):
    expected, found = native(digits.wide, digits.feed), native(digits.narrow, digits.feed)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert relative(found, expected) < FLIPS
    assert (found[::2].argmax(1) == digits.bodies.argmax(1)).mean() >= 0.99
    assert relative(found[::2], digits.bodies) < FLIPS


def test_digits_are_smaller_in_float16(digits):
    sizes = [sum(len(tensor.raw_data) for tensor in model.graph.initializer) for model in (digits.wide, digits.narrow)]
    assert sizes[1] < sizes[0]
    assert integers(digits.narrow) == integers(digits.wide)
