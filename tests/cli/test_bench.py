"""`qcompile bench FLOAT MODEL...`."""

import json

import onnx
import pytest

from tests.report.samples import float_model


def test_latency(cli, model, other):
    done = cli("bench", model, other, "--batch", 3, "--rounds", 2, "--json")
    values = json.loads(done.out)
    reference, found = values["models"]
    assert (reference["ratio"], reference["batch"], reference["rounds"], reference["threads"]) == (1.0, 3, 2, 1)
    assert found["path"] == str(other)
    assert found["ms"] > 0
    assert "synthetic" in values["images"]


def test_table(cli, model, other):
    done = cli("bench", model, other, "--rounds", 1)
    assert (done.code, done.err) == (0, "")
    for part in ("m.onnx", "other.onnx", "times float", "batch 1", "1 thread", "synthetic"):
        assert part in done.out


def test_given_images(cli, model, labelled):
    values = json.loads(cli("bench", model, "--images", labelled, "--batch", 4, "--rounds", 1, "--json").out)
    assert values["models"][0]["batch"] == 4
    assert str(labelled) in values["images"]


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--batch", 5], 0), (["--batch", 2], 2)])
def test_fixed_batch(cli, tmp_path, words, code):
    path = tmp_path / "fixed.onnx"
    onnx.save(float_model(batch=5), path)
    done = cli("bench", path, "--rounds", 1, "--json", *words)
    assert done.code == code
    if code:
        assert "fix the batch at 5" in done.err
    else:
        assert json.loads(done.out)["models"][0]["batch"] == 5


def test_profile(cli, model, other):
    done = cli("bench", model, other, "--profile", "--batch", 3, "--rounds", 2, "--json")
    found = json.loads(done.out)["models"]
    assert [item["path"] for item in found] == [str(model), str(other)]
    for item in found:
        assert (item["batch"], item["threads"], item["runs"]) == (3, 1, 2)
        assert item["run_us"] > 0
        assert sum(node["us"] for node in item["nodes"]) == pytest.approx(item["total_us"])
        for parts in (item["operators"], item["nodes"]):
            assert sum(part["share"] for part in parts) == pytest.approx(1)
        assert sum(part["nodes"] for part in item["operators"]) == len(item["nodes"])


def test_profile_as_text(cli, model):
    done = cli("bench", model, "--profile", "--rounds", 1)
    assert (done.code, done.err) == (0, "")
    for part in (str(model), "time by operator at batch 1, 1 thread", "Time by node", "% of all"):
        assert part in done.out


def test_profile_of_a_missing_file(cli, tmp_path):
    done = cli("bench", tmp_path / "none.onnx", "--profile")
    assert done.code == 2
    assert "none.onnx" in done.err
