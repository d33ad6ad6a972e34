"""Reading a report back from what a model carries."""

import json
from dataclasses import asdict, replace

import onnx
import pytest

from qcompiler.report.metadata import LAYER_KEY, REPORT_KEY, layer_from_dict, read_layer, read_report, report_from_dict

from .samples import LAYERS, MIXED, REPORT, STOPPED, lowered_model

OF_OUTPUTS = {"psnr": 31.5, "worst": "y", "outputs": {"y": {"relative_error": 0.113, "psnr": 31.5, "agreement": None}}}


@pytest.mark.parametrize(
    "report", [REPORT, STOPPED, MIXED, replace(REPORT, agreement={**REPORT.agreement, **OF_OUTPUTS})]
)
def test_round_trip(report):
    assert report_from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_layer_round_trip():
    for layer in (*LAYERS, *MIXED.layers):
        assert layer_from_dict(json.loads(json.dumps(asdict(layer)))) == layer


def test_report_of_a_file():
    model = lowered_model(REPORT)
    report = read_report(model)
    assert report is not None
    assert report.layers == LAYERS
    assert report.bops == REPORT.bops
    assert report.bytes_after == model.ByteSize()
    assert (report.passes, report.seconds) == ((), {})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"version": "9"}', '{"layers": [{"name": 1}]}', "null"])
def test_unreadable_metadata_counts_as_none(text):
    model = onnx.ModelProto()
    model.metadata_props.add(key=REPORT_KEY, value=text)
    assert read_report(model) is None
    node = onnx.NodeProto()
    node.metadata_props.add(key=LAYER_KEY, value=text)
    assert read_layer(node) is None


def test_no_metadata():
    assert read_report(onnx.ModelProto()) is None
    assert read_layer(onnx.NodeProto()) is None


def test_keys_are_those_that_the_driver_writes():
    from qcompiler.driver import annotate

    assert (annotate.REPORT_KEY, annotate.LAYER_KEY) == (REPORT_KEY, LAYER_KEY)
