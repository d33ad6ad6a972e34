import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from qcompiler.errors import OutputPathError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.loading import load_model
from qcompiler.ir.saving import save_model, to_model
from tests.passes.helpers import model_of, weight

TEXT = "agraph (float[batch, 40] x) => (float[batch, 40] y) { y = MatMul (x, w) }"


def model():
    return to_model(to_graph(model_of(TEXT, w=weight(40, 40))))


def test_versions_are_pinned():
    exported = model()
    assert exported.ir_version == 10
    assert [(item.domain, item.version) for item in exported.opset_import] == [("", 21)]


def test_the_own_domain_is_declared_when_used():
    graph = to_graph(model_of(TEXT, w=weight(40, 40)))
    graph.nodes[0].domain = "qcompiler"
    versions = {item.domain: item.version for item in to_model(graph).opset_import}
    assert versions == {"": 21, "qcompiler": 1}


def test_equal_graphs_give_equal_bytes(tmp_path):
    save_model(model(), tmp_path / "a.onnx")
    save_model(model(), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    assert save_model(model(), path) == [path]
    assert load_model(path) == model()
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OutputPathError, match="No space left"):
        save_model(model(), path)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


def test_large_model_keeps_its_weights_beside_the_file(tmp_path):
    source = model()
    path = tmp_path / "model.onnx"
    assert save_model(source, path, external_above=1000) == [path, tmp_path / "model.onnx.data"]
    assert path.stat().st_size < 1000
    loaded = load_model(path)
    assert np.array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), weight(40, 40))
    assert source == model()


def test_missing_folder(tmp_path):
    with pytest.raises(OutputPathError, match=r"folder of .* does not exist"):
        save_model(model(), tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(OutputPathError, match="is a folder"):
        save_model(model(), tmp_path)


def test_graph_is_not_changed():
    graph = to_graph(model_of(TEXT, w=weight(40, 40)))
    to_model(graph)
    assert isinstance(graph, gs.Graph)
    assert to_model(graph) == to_model(graph)
