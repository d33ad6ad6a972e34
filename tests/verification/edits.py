"""Ways to change a written model."""

import json

import numpy as np
import onnx

from qcompiler.report.metadata import REPORT_KEY


def node_of(model, name):
    return next(node for node in model.graph.node if node.name == name)


def read_by(model, node, index):
    """The constant that a node reads as its input `index`."""
    name = node_of(model, node).input[index]
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def stored(tensor, values):
    """Put `values` in the place of a constant's, in its type."""
    tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.ravel()))


def values_of(tensor):
    found = onnx.numpy_helper.to_array(tensor)
    return found.astype(np.int8) if tensor.data_type == onnx.TensorProto.INT4 else found.copy()


def flip_code(model, node="mlp.fc2"):
    """The sign of the first code that has one."""
    tensor = read_by(model, node, 1)
    codes = values_of(tensor)
    place = np.unravel_index(int(np.argmax(np.abs(codes) == 3)), codes.shape)
    codes[place] = -codes[place]
    stored(tensor, codes)


def change_report(model, edit):
    """Edit the report in the metadata: edit(values)."""
    entry = next(item for item in model.metadata_props if item.key == REPORT_KEY)
    values = json.loads(entry.value)
    edit(values)
    entry.value = json.dumps(values, sort_keys=True)


def drop_metadata(model):
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
