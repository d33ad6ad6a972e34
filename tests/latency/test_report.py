"""Profiles and latencies in reports."""

import io
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from rich.console import Console

from qcompiler.driver.annotate import annotate
from qcompiler.latency.profile import NodeTime, Profile
from qcompiler.report.latency import LatencyReport
from qcompiler.report.metadata import read_report
from qcompiler.report.profile import ModelProfile, OperatorTime, ProfiledNode, profiled_nodes
from qcompiler.report.profile_text import node_table, operator_table
from tests.report.samples import LAYERS, LONG_NAME, MIXED, REPORT

NODES = (NodeTime("patch[proj]", "BlockLinear", 10.0), NodeTime("split", "Split", 1.0),
         NodeTime(LONG_NAME, "BlockLinear", 30.0), NodeTime("blocks.0.attn", "BlockAttention", 19.0))  # fmt: skip


@pytest.fixture
def profile():
    layers = {layer.name: layer for layer in LAYERS}
    return ModelProfile(Path("m.onnx"), 2, 1, 9, 70.0, profiled_nodes(Profile(NODES, 70.0), layers))


def lines(part):
    stream = io.StringIO()
    Console(file=stream, width=400, highlight=False, markup=False).print(part)
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_nodes_know_their_layers(profile):
    assert profile.nodes == (
        ProfiledNode("patch[proj]", "BlockLinear", 10.0, "patch_embed", "w8a8"),
        ProfiledNode("split", "Split", 1.0),
        ProfiledNode(LONG_NAME, "BlockLinear", 30.0, "fc1", "w4a4"),
        ProfiledNode("blocks.0.attn", "BlockAttention", 19.0, "attention", "a4"),
    )
    (mixed,) = profiled_nodes(Profile(NODES[3:], 1.0), {layer.name: layer for layer in MIXED.layers})
    assert mixed.widths == "a4/5"


def test_operators(profile):
    assert profile.total_us == 60
    assert profile.operators() == (
        OperatorTime("BlockLinear", 2, 40.0),
        OperatorTime("BlockAttention", 1, 19.0),
        OperatorTime("Split", 1, 1.0),
    )
    assert [item["share"] for item in profile.to_dict()["nodes"]] == [10 / 60, 1 / 60, 0.5, 19 / 60]


def test_tables(profile):
    found = lines(operator_table(profile))
    assert "m.onnx: time by operator at batch 2, 1 thread, median of 9 runs (70 us a run under the profiler)" in found
    assert "BlockLinear 2 40 66.7 20.0" in found
    assert "all 4 60 100.0" in found
    found = lines(node_table(profile, most=2))
    assert f"{LONG_NAME} BlockLinear fc1 w4a4 30 50.0" in found
    assert "2 others - - 11 18.3" in found
    assert len(lines(node_table(profile, most=None))) == len(found) + 1


def test_nothing_ran():
    empty = ModelProfile(Path("m.onnx"), 1, 1, 1, 0.0, ())
    assert "all 0 0 100.0" in lines(operator_table(empty))


def test_the_model_carries_what_was_predicted():
    """And reads it back; models without it still read."""
    latency = LatencyReport(0.4, 0.3871, "Abacus 9000", "avx2", 1, "words")
    report = replace(REPORT, latency=latency)
    model = onnx.ModelProto()
    annotate(model, report)
    assert read_report(model).latency == latency
    annotate(model, REPORT)
    assert read_report(model).latency is None
