"""`qcompile inspect MODEL`."""

import json

import numpy as np
import onnx

from tests.report.samples import REPORT, lowered_model, readable_model


def saved(tmp_path, made, name="q.onnx", **more):
    path = tmp_path / name
    onnx.save(made, path, **more)
    return path


def test_a_quantized_model(cli, tmp_path):
    path = saved(tmp_path, lowered_model(REPORT))
    done = cli("inspect", path)
    assert (done.code, done.err) == (0, "")
    for part in ("fc[1]", "GroupAttention", "codebook", "8/2/2/8", "qcompile 1.2.3", "0.2500 of W8A8", "lowered"):
        assert part in done.out


def test_without_metadata(cli, tmp_path):
    done = cli("inspect", saved(tmp_path, lowered_model()))
    assert "fc[1]" in done.out
    assert "none recorded" in done.out
    assert "explicit group quantizers" in cli("inspect", saved(tmp_path, readable_model())).out


def test_json(cli, tmp_path):
    path = saved(tmp_path, lowered_model(REPORT))
    values = json.loads(cli("inspect", path, "--json").out)
    assert (values["model"], values["bytes"], values["form"]) == (str(path), path.stat().st_size, "lowered")
    assert values["layers"][0]["groups"] == [8]
    assert values["report"]["calibration"]["count"] == 128


def test_quiet(cli, model):
    done = cli("inspect", model, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_external_data_counts(cli, tmp_path):
    made = lowered_model()
    large = np.zeros((64, 64), np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(large, "large"))
    path = saved(tmp_path, made, save_as_external_data=True, location="q.bin", size_threshold=1024)
    values = json.loads(cli("inspect", path, "--json").out)
    assert values["bytes"] == path.stat().st_size + large.nbytes
