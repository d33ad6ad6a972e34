"""`--save-plan` and `--bits-file`: a plan survives the file, and what a user edits is checked."""

import json
import re
from dataclasses import replace

import pytest

from qcompiler.driver import compile_model
from qcompiler.driver.effort import LEVELS
from qcompiler.errors import BudgetError, OptionError

from .runs import fast
from .tiny import save


@pytest.fixture(scope="module")
def plans(wide_path, tmp_path_factory):
    """Plan files by method, and the model that each was saved with."""
    made = {}

    def get(method):
        if method not in made:
            path = tmp_path_factory.mktemp(method) / "plan.json"
            made[method] = path, compile_model(wide_path, fast(method=method, effort="low", save_plan=path))
        return made[method]

    return get


def edited(plans, tmp_path, change, method="auto"):
    """A copy of a plan after ``change(content)``."""
    content = json.loads(plans(method)[0].read_text("utf-8"))
    change(content)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(content), "utf-8")
    return path


def without_annotations(model):
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("method", ["auto", "igq", "mixq", "lrp"])
def test_a_saved_plan_gives_the_same_model(plans, wide_path, method):
    """Up to what the report says of how the plan was found."""
    path, expected = plans(method)
    found = compile_model(wide_path, fast(method=method, bits_file=path))
    assert found.report.bops == expected.report.bops
    assert found.report.agreement == expected.report.agreement
    assert found.search.points == ()
    assert without_annotations(found.model) == without_annotations(expected.model)


def test_a_plan_from_a_file_is_saved_as_it_was_read(plans, wide_path, tmp_path):
    path, _ = plans("auto")
    compile_model(wide_path, fast(bits_file=path, save_plan=tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_plan_keeps_the_images_that_its_weights_were_fitted_to(monkeypatch, tmp_path):
    """Low effort fits weights to fewer images; compiled again at another effort, its plan gives the same weights."""
    monkeypatch.setitem(LEVELS, "low", replace(LEVELS["low"], weight_images=24))
    path, model = tmp_path / "plan.json", save(tmp_path, count=64)
    expected = compile_model(model, fast(effort="low", images=64, save_plan=path))
    assert json.loads(path.read_text("utf-8"))["weight_images"] == 24
    found = compile_model(model, fast(images=64, bits_file=path))
    assert without_annotations(found.model) == without_annotations(expected.model)
    everything = json.loads(path.read_text("utf-8")) | {"weight_images": 0}
    path.write_text(json.dumps(everything), "utf-8")
    other = compile_model(model, fast(images=64, bits_file=path, effort="low"))
    assert without_annotations(other.model) != without_annotations(expected.model)


def test_an_edited_plan(plans, wide_path, tmp_path):
    def change(content):
        content["linears"]["mlp.fc1"] = {"weight_bits": 2, "activation_bits": 7, "scheme": "blocks", "block": 32}
        content["linears"]["head"] = {"weight_bits": 6, "activation_bits": 5, "groups": 3}
        content["attentions"]["node_s/softmax"] = {"qk_bits": 3, "value_bits": 5}

    result = compile_model(wide_path, fast(bits_file=edited(plans, tmp_path, change)))
    layers = {layer.kind: layer for layer in result.report.layers}
    fc1, head, attention = layers["fc1"], layers["head"], layers["attention"]
    assert (fc1.weight_bits, fc1.activation_bits, fc1.scheme, fc1.block, fc1.rotate) == (2, 7, "blocks", 32, 1)
    assert (head.weight_bits, head.activation_bits, head.groups) == (6, 5, (3,))
    assert (attention.activation_bits, attention.value_bits) == (3, 5)


def set_value(part, layer, **values):
    return lambda content: content[part][layer].update(values)


def replaced(layer, **values):
    return lambda content: content["linears"].update({layer: {"weight_bits": 4, "activation_bits": 4, **values}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["linears"].pop("mlp.fc1"), "'mlp.fc1'"),
        (lambda c: c["attentions"].clear(), "'node_s/softmax'"),
        (lambda c: c["linears"].update(other={"weight_bits": 4, "activation_bits": 4}), "'other', which is no layer"),
        (set_value("linears", "mlp.fc1", weight_bits=1), "'mlp.fc1'.*outside 2"),
        (replaced("mlp.fc1", scheme="blocks", block=48), "'mlp.fc1'.*do not divide 64 channels"),
        (replaced("mlp.fc2", scheme="folded"), "'mlp.fc2'.*needs a LayerNormalization"),
        (replaced("mlp.fc2", weight_block=48), "'mlp.fc2'.*48 does not divide 128"),
        (lambda c: c.update(format=99), "format 1"),
        (lambda c: c.update(weight_images=-1), "'weight_images' must be a number of images"),
    ],
    ids=["missing", "no attention", "unknown", "width", "block", "fold", "weight block", "format", "images"],
)
def test_a_plan_that_does_not_fit(plans, wide_path, tmp_path, change, message):
    with pytest.raises(OptionError, match=message):
        compile_model(wide_path, fast(bits_file=edited(plans, tmp_path, change)))


def test_a_missing_plan(wide_path, tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        compile_model(wide_path, fast(bits_file=tmp_path / "none.json"))


def test_a_plan_of_another_model(plans, tmp_path):
    with pytest.raises(OptionError, match="not divide 16 channels"):
        compile_model(save(tmp_path), fast(bits_file=plans("auto")[0]))


@pytest.mark.parametrize("option", ["bop_budget", "overhead_budget", "size_budget"])
def test_a_plan_that_costs_more_than_a_budget(plans, wide_path, tmp_path, option):
    """A file cannot be made cheaper: it is refused, with the budget that it needs, and nothing is written."""
    path, expected = plans("auto")
    bops = expected.report.bops
    spent = {"bop_budget": bops.fraction_of_w8a8, "overhead_budget": bops.overhead, "size_budget": None}[option]
    if spent is None:
        spent = compile_model(wide_path, fast(bits_file=path)).report.size_ratio
    flag = f"--{option.replace('_', '-')}"
    saved = {"save_stats": tmp_path / "stats.npz", "save_plan": tmp_path / "plan.json"}
    with pytest.raises(BudgetError, match=f"{flag} allows") as caught:
        compile_model(wide_path, fast(bits_file=path, **{option: spent * 0.99}, **saved), output=tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []
    needed = float(re.search(rf"give {flag} (\S+) or more", str(caught.value))[1])
    assert needed == pytest.approx(spent, abs=2e-4)
    compile_model(wide_path, fast(bits_file=path, **{option: needed}), output=tmp_path / "out.onnx")
    assert [item.name for item in tmp_path.iterdir()] == ["out.onnx"]
