"""Relevance and sensitivity of all layers without a compilation."""

import re

import numpy as np
import onnx
import pytest

from qcompiler import driver
from qcompiler.driver import analyze_model, compile_model
from qcompiler.errors import BudgetError, CalibrationDataError, OutputPathError, UnsupportedModelError
from qcompiler.relevance import sensitivity

from .runs import fast, plain
from .tiny import images, save

NAMES = ["patch.proj", "attn.qkv", "node_s", "attn.proj", "mlp.fc1", "mlp.fc2", "head"]
KINDS = ["patch_embed", "qkv", "attention", "proj", "fc1", "fc2", "head"]


@pytest.fixture(scope="module")
def analysed(wide_path):
    made = {}

    def get(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = analyze_model(wide_path, fast(**options))
        return made[key]

    return get


def test_exported_by_the_driver():
    assert driver.analyze_model is analyze_model


def test_layers_in_graph_order(analysed):
    layers = analysed().layers
    assert [layer.name for layer in layers] == NAMES
    assert [layer.kind for layer in layers] == KINDS
    assert [layer.depth for layer in layers] == list(range(7))


def test_relevance_is_a_share(analysed):
    relevance = [layer.relevance for layer in analysed().layers]
    assert sum(relevance) == pytest.approx(1)
    assert min(relevance) > 0
    other = analysed(lrp_rule="gamma")
    assert (analysed().lrp_rule, other.lrp_rule) == ("zplus", "gamma")
    assert [layer.relevance for layer in other.layers] != relevance
    assert set(analysed().conservation) == {"tokens mean", "tokens spread"}


def test_widths_around_the_budget(analysed):
    """Both sides of every free layer; the fixed ones have no widths to choose from."""
    for options, widths in (({}, "3456"), ({"bop_budget": 0.5625}, "568"), ({"bits": "w4a4"}, "4")):
        for layer in analysed(**options).layers:
            sides = () if layer.kind in ("patch_embed", "head") else ("qk", "v") if layer.kind == "attention" else "wa"
            assert set(layer.sensitivity) == {side + bits for side in sides for bits in widths}
            assert all(loss > 0 for loss in layer.sensitivity.values())


def test_measured_where_effort_is_high(analysed):
    """The losses are those of the model with one quantized weight; here with the simplest quantizer there is."""
    result = analysed(effort="high", strict_bits=True)
    found = {layer.name: layer.sensitivity for layer in result.layers}
    for sides in found.values():
        for side in {re.fullmatch(r"(\D+)\d", width)[1] for width in sides}:
            losses = [sides[f"{side}{bits}"] for bits in (3, 6)]
            assert losses[0] > losses[1]


def test_a_weight_of_few_bits_costs_what_the_model_loses(wide_path):
    """The float model with one weight rounded by hand: the same order of magnitude as the analysis says."""
    model = onnx.load(wide_path)
    feed = {"x": images(24)[:16]}
    expected = plain(model, feed).astype(np.float64)
    tensor = next(item for item in model.graph.initializer if item.name == "fc1_weight")
    weight = onnx.numpy_helper.to_array(tensor)
    scale = np.abs(weight).max(axis=0) / 4
    tensor.CopyFrom(onnx.numpy_helper.from_array((np.clip(np.rint(weight / scale), -4, 3) * scale), tensor.name))
    found = plain(model, feed).astype(np.float64)
    logs = [x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (expected, found)]
    loss = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean()
    options = fast(effort="high", strict_bits=True, bits="w3a3", probe_images=16)
    layers = {layer.name: layer.sensitivity for layer in analyze_model(wide_path, options).layers}
    assert loss / 4 < layers["mlp.fc1"]["w3"] < loss * 1.5  # error-minimising ranges only help


def test_the_search_of_a_compilation_says_the_same(analysed, wide):
    compiled = {layer.name: layer.sensitivity for layer in wide().search.layers}
    assert {layer.name: layer.sensitivity for layer in analysed().layers} == compiled


def test_nothing_is_written_and_nothing_changed(tmp_path):
    path = save(tmp_path)
    before = path.read_bytes()
    analyze_model(path, fast())
    assert sorted(item.name for item in tmp_path.iterdir()) == ["tiny.calib.npz", "tiny.onnx"]
    assert path.read_bytes() == before


def test_statistics_are_shared_with_compilations(tmp_path):
    path, stats = save(tmp_path), tmp_path / "stats.npz"
    analysed = analyze_model(path, fast(save_stats=stats))
    assert "calibrate" in analysed.seconds
    again = analyze_model(path, fast(stats=stats))
    assert again.layers == analysed.layers
    assert "calibrate" not in again.seconds
    from_file = compile_model(path, fast(effort="low", stats=stats)).model
    assert from_file == compile_model(path, fast(effort="low")).model


def test_interrupted_and_resumed(tmp_path, monkeypatch):
    path, state, names = save(tmp_path), tmp_path / "state", []
    measure, most = sensitivity.measure_job, 5

    def counted(context, job):
        if len(names) == most:
            raise KeyboardInterrupt
        names.append(job.name)
        return measure(context, job)

    monkeypatch.setattr(sensitivity, "measure_job", counted)
    with pytest.raises(KeyboardInterrupt):
        analyze_model(path, fast(bits="w4a4", resume=state))
    assert {item.name.partition("-")[0] for item in state.iterdir()} == {"statistics", "relevance", "measurements"}
    most = None
    result = analyze_model(path, fast(bits="w4a4", resume=state))
    assert result.resumed == f"the statistics, the relevance of the layers, 5 sensitivities from '{state}'"
    assert len(names) == len(set(names)) > 5
    assert not state.exists()
    expected = analyze_model(path, fast(bits="w4a4"))
    assert expected.resumed is None
    assert result.layers == expected.layers
    assert result.conservation == expected.conservation


def test_progress_is_told(tiny_path):
    stages = []

    class Recorder:
        def stage(self, name, total=None):
            stages.append(name)

        def advance(self, steps=1):
            pass

    analyze_model(tiny_path, fast(), progress=Recorder())
    names = ["canonicalise", "calibrate", "propagate relevance", "fit quantizers", "measure sensitivity"]
    assert stages == names


def test_synthetic_images_are_a_warning(tmp_path):
    path = save(tmp_path)
    (tmp_path / "tiny.calib.npz").unlink()
    assert any("synthetic" in warning for warning in analyze_model(path, fast()).warnings)


def test_errors_are_those_of_a_compilation(tmp_path):
    path = save(tmp_path)
    with pytest.raises(BudgetError, match="--bop-budget"):
        analyze_model(path, fast(bop_budget=0.01))
    with pytest.raises(CalibrationDataError, match="no such file"):
        analyze_model(path, fast(), tmp_path / "none.npz")
    with pytest.raises(OutputPathError, match="does not exist"):
        analyze_model(path, fast(save_stats=tmp_path / "none" / "stats.npz"))
    flat = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 1, 8, 8] x) => (float[n, 1, 8, 8] y) { y = Relu (x) }'
    )
    with pytest.raises(UnsupportedModelError):
        analyze_model(flat, fast())
    assert sorted(item.name for item in tmp_path.iterdir()) == ["tiny.calib.npz", "tiny.onnx"]
