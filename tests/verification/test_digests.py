"""Digests of a model's parts: they follow the values and nothing else."""

import hashlib

import numpy as np
import onnx
import pytest

from qcompiler.report.digests import DIGEST_KEY, Digests, digests, read_digests

from ..report import transformers
from . import edits


def test_round_trip():
    made = digests(transformers.vit())
    model = onnx.ModelProto()
    model.metadata_props.add(key=DIGEST_KEY, value=made.to_text())
    assert read_digests(model) == made
    assert read_digests(onnx.ModelProto()) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 3, "graph": "", "functions": "", "report": ""}'])
def test_text_of_something_else(text):
    assert Digests.from_text(text) is None


def test_storage_and_notes_do_not_count(tmp_path):
    model = transformers.vit()
    before = digests(model)
    model.doc_string = "seen"
    model.graph.node[0].doc_string = "seen"
    model.metadata_props.add(key="someone", value="else")
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert digests(onnx.load(path)) == before


@pytest.mark.parametrize("name", ["we", "s8", "levels", "zero"])
def test_every_constant_counts(name):
    """Large ones for the nodes that read them, all of them for the graph."""
    model = transformers.vit()
    before = digests(model)
    tensor = next(item for item in model.graph.initializer if item.name == name)
    values = edits.values_of(tensor)
    values.reshape(-1)[0] += 1
    edits.stored(tensor, values)
    after = digests(model)
    assert after.graph != before.graph
    assert (after.functions, after.report) == (before.functions, before.report)
    changed = {node for node, digest in after.nodes.items() if before.nodes[node] != digest}
    assert changed == {node.name for node in model.graph.node if name in node.input and node.name in before.nodes}


def test_the_report_alone():
    """Its digest is a SHA-256 over length and text of every note."""
    model = transformers.vit()
    model.metadata_props.add(key="qcompile.report", value="{}")
    expected = hashlib.sha256((2).to_bytes(8, "little") + b"{}").hexdigest()[:16]
    assert digests(model).report == expected
    assert np.unique([len(digest) for digest in digests(model).nodes.values()]) == [16]
