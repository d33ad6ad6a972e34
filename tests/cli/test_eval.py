"""`qcompile eval FLOAT MODEL...`."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from tests.report.samples import float_model


def top1(path, archive):
    data = np.load(archive)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    predicted = session.run(None, {"x": data["x"]})[0].argmax(1)
    return 100 * float((predicted == data["labels"]).mean())


def test_accuracy(cli, model, other, labelled):
    done = cli("eval", model, other, "--images", labelled, "--json", "--threads", 1)
    values = json.loads(done.out)
    reference, found = values["models"]
    assert reference["top1"] == pytest.approx(top1(model, labelled))
    assert found["top1"] == pytest.approx(top1(other, labelled))
    assert found["drop"] == pytest.approx(reference["top1"] - found["top1"])
    assert found["path"] == str(other)
    assert "20 images" in values["images"]


def test_table(cli, model, other, labelled):
    done = cli("eval", model, other, "--images", labelled)
    assert (done.code, done.err) == (0, "")
    for part in ("m.onnx", "other.onnx", "drop (points)", "agreement %", "KL", "20 images"):
        assert part in done.out


def test_labels_of_the_same_file_name(cli, model, labelled, tmp_path):
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / "m.onnx"
    onnx.save(float_model(seed=2), twin)
    values = json.loads(cli("eval", model, twin, model, "--images", labelled, "--json").out)
    assert [item["model"] for item in values["models"]] == [str(model), str(twin), f"{model} (2)"]


def test_limit_and_fixed_batch(cli, model, labelled, tmp_path):
    fixed = tmp_path / "fixed.onnx"
    onnx.save(float_model(batch=4), fixed)
    values = json.loads(cli("eval", model, fixed, "--images", labelled, "--limit", 10, "--json").out)
    assert {item["images"] for item in values["models"]} == {10}
    assert values["models"][1]["agreement"] == 100  # the same weights


def test_models_that_do_not_fit_each_other(cli, model, labelled, tmp_path):
    for name, made in (("four", float_model(batch=4)), ("three", float_model(batch=3))):
        onnx.save(made, tmp_path / f"{name}.onnx")
    done = cli("eval", tmp_path / "four.onnx", tmp_path / "three.onnx", "--images", labelled)
    assert done.code == 2
    assert "3 and 4" in done.err
    renamed = float_model()
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "pixels"
    onnx.save(renamed, tmp_path / "renamed.onnx")
    done = cli("eval", model, tmp_path / "renamed.onnx", "--images", labelled)
    assert done.code == 2
    assert "'x'" in done.err
    assert "'pixels'" in done.err


def test_a_csv_needs_a_preprocessing(cli, model, tmp_path):
    (tmp_path / "set").mkdir()
    Image.new("L", (2, 2), 255).save(tmp_path / "set" / "a.png")
    (tmp_path / "set.csv").write_text("file,label\na.png,0\n")
    refused = cli("eval", model, "--images", tmp_path / "set.csv")
    assert refused.code == 2
    assert "--preset" in refused.err
    values = json.loads(cli("eval", model, "--images", tmp_path / "set.csv", "--preset", "half", "--json").out)
    assert values["preprocessing"]["crop"] == 2


def test_a_model_that_fails_when_it_runs(cli, model, labelled, tmp_path):
    broken = float_model()
    broken.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.array([-1, 3], np.int64), "flat"))
    del broken.graph.value_info[:]
    onnx.save(broken, tmp_path / "broken.onnx")
    done = cli("eval", model, tmp_path / "broken.onnx", "--images", labelled)
    assert done.code == 2
    assert "broken.onnx" in done.err
    assert done.err.count("\n") == 1


def test_an_operator_library_that_cannot_be_used(cli, model, labelled, tmp_path, monkeypatch):
    (tmp_path / "no.so").write_text("no library")
    monkeypatch.setenv("QCOMPILER_LIBRARY", str(tmp_path / "no.so"))
    done = cli("eval", model, "--images", labelled)
    assert done.code == 2
    assert "operator library" in done.err
    values = json.loads(cli("eval", model, "--images", labelled, "--without-library", "--json").out)
    assert values["operators"] == "function bodies"


def test_draws(cli, model, other, labelled):
    done = cli("eval", model, other, "--images", labelled, "--draws", 3, "--json")
    assert [item["draws"] for item in json.loads(done.out)["models"]] == [1, 3]
    assert "mean of 3 draws" in cli("eval", model, other, "--images", labelled, "--draws", 3).out
    assert "mean of" not in cli("eval", model, other, "--images", labelled).out
    assert cli("eval", model, other, "--images", labelled, "--draws", 0).code == 2
