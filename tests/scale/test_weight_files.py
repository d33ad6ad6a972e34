"""Models whose weights stay in files: the same numbers as in memory, and nothing left behind."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler.calibration.float_session import StreamedSession, float_session
from qcompiler.calibration.statistics import model_hash
from qcompiler.driver import compile_model
from qcompiler.errors import ModelFileError
from qcompiler.ir import weight_files
from qcompiler.ir.importing import to_graph
from qcompiler.ir.loading import load_model
from qcompiler.ir.saving import save_model, to_model
from qcompiler.ir.weight_files import WeightFiles, in_files, is_external, model_bytes, release, tensor_array
from qcompiler.relevance.skeleton import Skeleton
from tests.driver.runs import fast
from tests.driver.tiny import images, save, tiny


@pytest.fixture
def external(tmp_path):
    """The small model with its weights in a file beside it."""
    path = tmp_path / "external.onnx"
    onnx.save(tiny(dim=64), path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    np.savez(tmp_path / "external.calib.npz", x=images(24))
    return path


def plain_session(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def temporary_folders(folder):
    return [path for path in Path(folder).iterdir() if path.name.startswith("qcompile-")]


def test_weights_of_a_large_model_stay_where_they_are(external):
    with WeightFiles(large=1000) as files:
        mapped, whole = load_model(external, files), load_model(external)
        assert in_files(mapped)
        assert not in_files(whole)
        inside = {tensor.name: tensor for tensor in whole.graph.initializer}
        for tensor in mapped.graph.initializer:
            np.testing.assert_array_equal(tensor_array(tensor), onnx.numpy_helper.to_array(inside[tensor.name]))
        places = {
            entry.value for item in mapped.graph.initializer for entry in item.external_data if entry.key == "location"
        }
        assert {f"/{place}" for place in places} == {str(external.with_name("weights.bin").resolve())}
        assert model_bytes(mapped) >= whole.ByteSize()


def test_a_small_model_is_read_into_memory(external):
    with WeightFiles() as files:
        assert load_model(external, files) == load_model(external)


def test_weights_inside_of_the_model_go_to_a_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = tiny(dim=64)
    with WeightFiles(large=1000) as files:
        mapped = load_model(model, files)
        assert in_files(mapped)
        assert len(temporary_folders(tmp_path)) == 1
        assert model == tiny(dim=64)
    assert not temporary_folders(tmp_path)


@pytest.mark.parametrize("part_bytes", [1, 20_000, 1 << 30])
def test_a_model_run_in_parts_gives_the_same(external, part_bytes):
    feed = {"x": images(3)}
    with WeightFiles(large=1000) as files:
        session = StreamedSession(load_model(external, files), 1, part_bytes)
        whole = plain_session(load_model(external))
        (found,) = session.run(None, feed)
        np.testing.assert_allclose(found, whole.run(None, feed)[0], rtol=1e-5, atol=1e-5)
        assert [item.name for item in session.get_inputs()] == ["x"]
        (output,) = session.get_outputs()
        assert (output.name, output.type, len(output.shape)) == ("logits", "tensor(float)", 2)


def test_inner_tensors_and_subgraphs_run_in_parts():
    """The branches of an If read a weight and a tensor of the graph around them."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 32] x) => (float[n, 32] y) {
          a = MatMul (x, w)
          flag = Constant <value = bool {1}> ()
          b = If (flag) <
            then_branch = t () => (float[n, 32] u) { u = MatMul (a, v) },
            else_branch = e () => (float[n, 32] u) { u = Identity (a) }
          >
          y = Add (b, x)
        }"""
    )
    draw = np.random.default_rng(0)
    for name in "wv":
        model.graph.initializer.append(onnx.numpy_helper.from_array(draw.standard_normal((32, 32), np.float32), name))
    feed = {"x": draw.standard_normal((2, 32), np.float32)}
    expected = plain_session(model).run(None, feed)[0]
    with WeightFiles(large=1000) as files:
        mapped = load_model(model, files)
        assert all(map(is_external, mapped.graph.initializer))
        session = StreamedSession(mapped, 1, part_bytes=1)
        np.testing.assert_allclose(session.run(["y"], feed)[0], expected, rtol=1e-5)


def test_a_model_that_cannot_run_is_refused_at_once(external):
    with WeightFiles(large=1000) as files:
        model = load_model(external, files)
        model.graph.node[0].op_type = "NoSuchOperator"
        with pytest.raises(Exception, match="NoSuchOperator"):
            float_session(model, 1)


def test_the_hash_is_about_values_not_places(external, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "other.onnx"
    onnx.save(tiny(dim=64), other, save_as_external_data=True, location="data", size_threshold=1024)
    changed = tmp_path / "changed.onnx"
    onnx.save(tiny(dim=64, seed=1), changed, save_as_external_data=True, location="changed.data", size_threshold=1024)
    with WeightFiles(large=1000) as files:
        hashes = [model_hash(load_model(path, files)) for path in (external, other, changed)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("left", [0, 10, 5000])
def test_truncated_data_is_refused(external, left):
    data = external.with_name("weights.bin")
    data.write_bytes(data.read_bytes()[:left])
    with WeightFiles(large=1000) as files, pytest.raises(ModelFileError, match=r"external data of .* cannot be read"):
        load_model(external, files)


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/hostname", "nothing.bin"])
def test_data_elsewhere_is_refused(external, tmp_path, place):
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = place if entry.key == "location" else entry.value
    onnx.save(model, external)
    with WeightFiles(large=1000) as files, pytest.raises(ModelFileError):
        load_model(external, files)


def test_parts_of_a_model_in_files_and_in_memory(external):
    """What sensitivity sweeps run: the whole model, with its weights in files, and sent away with its values."""
    feed = {"x": images(2)}
    with WeightFiles(large=1000) as files:
        skeleton = Skeleton.of(load_model(external, files), held_from=4096)
        found = [item.session(item.model, 1).run(feed)["logits"] for item in (skeleton, skeleton.in_memory())]
        moved = skeleton.in_memory()
    name = "qkv_weight"
    np.testing.assert_array_equal(moved.constant(name), float_weight(name))
    expected = plain_session(tiny(dim=64)).run(None, feed)[0]
    for values in found:
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def float_weight(name):
    return next(onnx.numpy_helper.to_array(item) for item in tiny(dim=64).graph.initializer if item.name == name)


def test_released_values_are_read_again(external):
    with WeightFiles(large=1000) as files:
        tensor = next(filter(is_external, load_model(external, files).graph.initializer))
        values = tensor_array(tensor)
        before = values.copy()
        release(values)
        np.testing.assert_array_equal(values, before)
        assert not values.flags.writeable
    release(before)  # of an array in memory: nothing to give back


def test_graph_and_back_keep_the_places(external):
    with WeightFiles(large=1000) as files:
        model = load_model(external, files)
        graph = to_graph(model)
        for tensor in graph.tensors().values():
            tensor.name = f"renamed {tensor.name}"
        names = [tensor.name for tensor in model.graph.initializer]
        exported = to_model(graph, graph.opset, files)
        assert [tensor.name for tensor in model.graph.initializer] == names  # the model is not changed
        assert not temporary_folders_of(files)
        held = {tensor.name: tensor for tensor in model.graph.initializer}
        for tensor in exported.graph.initializer:
            origin = held[tensor.name.removeprefix("renamed ")]
            assert list(tensor.external_data) == list(origin.external_data)


def temporary_folders_of(files):
    return files._folder


@pytest.mark.parametrize("above", [0, 1 << 40])
def test_written_with_and_without_a_file_of_weights(external, tmp_path, above):
    target = tmp_path / "written.onnx"
    with WeightFiles(large=1000) as files:
        written = save_model(load_model(external, files), target, external_above=above)
    assert [path.name for path in written] == ["written.onnx", "written.onnx.data"][: 1 + (above == 0)]
    external.with_name("weights.bin").unlink()  # what was written does not need what was read
    feed = {"x": images(2)}
    found = ort.InferenceSession(str(target), providers=["CPUExecutionProvider"]).run(None, feed)[0]
    np.testing.assert_array_equal(found, plain_session(tiny(dim=64)).run(None, feed)[0])
    for tensor in onnx.load(target, load_external_data=False).graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                assert entry.value == "written.onnx.data"


@pytest.mark.parametrize("options", [{"bits": "w8a8"}, {"effort": "low"}, {}, {"method": "mixq"}])
def test_compiled_like_a_model_in_memory(external, tmp_path, monkeypatch, options):
    """Weights in files change nothing but the rounding of float runs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small = compile_model(external, fast(**options), output=tmp_path / "small.onnx")
    monkeypatch.setattr(weight_files, "LARGE", 1000)
    monkeypatch.setattr(StreamedSession.__init__, "__defaults__", (0, 20_000))
    large = compile_model(external, fast(**options), output=tmp_path / "large.onnx")
    assert in_files(large.model)
    feed = {"x": images(4)}
    outputs = [
        ort.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for name in ("small.onnx", "large.onnx")
    ]
    assert large.report.bytes_before == pytest.approx(small.report.bytes_before, rel=0.05)
    assert large.report.bops == small.report.bops
    error = np.linalg.norm(outputs[1] - outputs[0]) / np.linalg.norm(outputs[0])
    assert error < 0.1  # codes at the edge of rounding may differ
    del large
    assert not temporary_folders(tmp_path)


def test_a_failed_compilation_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(weight_files, "LARGE", 1000)
    model = save(tmp_path, dim=64)

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(Exception, match="No space left"):
        compile_model(model, fast(bits="w8a8", effort="low"), output=tmp_path / "out.onnx")
    assert sorted(os.listdir(tmp_path)) == ["tiny.calib.npz", "tiny.onnx"]
