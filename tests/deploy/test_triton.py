"""The Triton repository, its configuration read by Triton's own protocol buffers."""

from __future__ import annotations

import importlib.util
import string
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import onnxruntime
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.deploy import DeployOptions, deploy_model
from qcompiler.deploy.package import ModelPackage
from qcompiler.deploy.signature import Signature, TensorSignature
from qcompiler.deploy.triton import triton_layout

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(uint8)": "TYPE_UINT8"}


# Of the session, so that tests are skipped before another fixture of the session compiles a model.
@pytest.fixture(scope="session")
def triton() -> ModuleType:
    """`model_config_pb2`, loaded by its path: the package around it needs gRPC, which nothing here does."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient is not installed (the extra serving-test)")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules.get(spec.name) or importlib.util.module_from_spec(spec)
    if spec.name not in sys.modules:
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


def parsed(triton: ModuleType, text: str) -> Any:
    return text_format.Parse(text, triton.ModelConfig())


def test_repository(triton, digits, tmp_path):
    options = DeployOptions("triton", "digits", instances=3, threads=2, max_batch=16, mount="/srv/models")
    repository = tmp_path / "models"
    deployed = deploy_model(digits, repository, options)
    assert (deployed.version, deployed.library, deployed.batched) == (1, True, True)
    folder = repository / "digits"
    files = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    inside = ("1/deployment.json", "1/model.onnx", "README.md", "config.pbtxt", "libqcompiler_ops.so")
    assert files == [f"digits/{name}" for name in inside]

    config = parsed(triton, (folder / "config.pbtxt").read_text("utf-8"))
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "onnxruntime", 16)
    assert config.HasField("dynamic_batching")
    (group,) = config.instance_group
    assert (group.count, group.kind) == (3, triton.ModelInstanceGroup.KIND_CPU)
    assert {key: value.string_value for key, value in config.parameters.items()} == {"intra_op_thread_count": "2"}

    # The model and the library that the server will find, as it will find them.
    (named,) = config.model_operations.op_library_filename
    library = repository / PurePosixPath(named).relative_to("/srv/models")
    session_options = onnxruntime.SessionOptions()
    session_options.register_custom_ops_library(str(library))
    model = folder / "1" / config.default_model_filename
    session = onnxruntime.InferenceSession(str(model), session_options, providers=["CPUExecutionProvider"])
    described = zip((*config.input, *config.output), (*session.get_inputs(), *session.get_outputs()), strict=True)
    for item, tensor in described:
        assert item.name == tensor.name
        assert triton.DataType.Name(item.data_type) == TYPES[tensor.type]
        assert [None, *item.dims] == [None if isinstance(size, str) else size for size in tensor.shape]


@pytest.mark.parametrize("word", ["/srv/models/digits/libqcompiler_ops.so", "--model-repository=/srv/models"])
def test_readme_says_how_to_start(float_digits, digits, tmp_path, word):
    deploy_model(digits, tmp_path / "r", DeployOptions("triton", "digits", mount="/srv/models"))
    assert word in (tmp_path / "r" / "digits" / "README.md").read_text("utf-8")


def test_a_float_model_needs_no_library(triton, float_digits, tmp_path):
    deployed = deploy_model(float_digits, tmp_path / "r", DeployOptions("triton", "float"))
    assert not deployed.library
    config = parsed(triton, (tmp_path / "r" / "float" / "config.pbtxt").read_text("utf-8"))
    assert not config.HasField("model_operations")


def test_without_library(triton, digits, tmp_path):
    deployed = deploy_model(digits, tmp_path / "r", DeployOptions("triton", "digits", without_library=True))
    assert not deployed.library
    assert not list(tmp_path.rglob("*.so"))
    assert "op_library" not in (tmp_path / "r" / "digits" / "config.pbtxt").read_text("utf-8")


DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
TENSORS = st.builds(
    TensorSignature,
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.one_of(st.just(-1), st.integers(1, 2**40)), max_size=5).map(tuple),
)


@settings(deadline=None)
@given(
    inputs=st.lists(TENSORS, min_size=1, max_size=3),
    outputs=st.lists(TENSORS, min_size=1, max_size=3),
    name=st.text(string.ascii_letters + string.digits + "._-", max_size=20).map(lambda text: f"m{text}"),
    instances=st.integers(1, 2**31 - 1),
    threads=st.integers(0, 1000),
    max_batch=st.integers(1, 2**31 - 1),
)
def test_any_signature_survives_the_configuration(triton, inputs, outputs, name, instances, threads, max_batch):
    options = DeployOptions("triton", name, instances=instances, threads=threads, max_batch=max_batch)
    package = ModelPackage(Path("m.onnx"), {}, None, Signature(tuple(inputs), tuple(outputs)))
    config = parsed(triton, str(triton_layout(package, options, 1).model["config.pbtxt"]))
    batched = all(tensor.shape and tensor.shape[0] == -1 for tensor in inputs + outputs)
    assert (config.name, config.max_batch_size) == (name, max_batch if batched else 0)
    assert config.HasField("dynamic_batching") == batched
    assert config.instance_group[0].count == instances
    assert config.parameters["intra_op_thread_count"].string_value == str(threads)
    for tensor, item in zip(inputs + outputs, (*config.input, *config.output), strict=True):
        assert item.name == tensor.name
        assert triton.DataType.Name(item.data_type) == f"TYPE_{tensor.datatype}"
        # Triton knows no tensor without axes: such a one has a size of 1, which is taken off before the model.
        dims = list(item.reshape.shape) if item.HasField("reshape") else list(item.dims)
        assert ([-1] if batched else []) + dims == list(tensor.shape)
        assert len(item.dims) >= 1
