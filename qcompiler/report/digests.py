"""Digests of what a written model holds: which part of a file was changed after it was written.

They find damage and edits, not forgery: who changes a file on purpose can change its digests as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import onnx

from qcompiler.ir.weight_files import raw_bytes
from qcompiler.report.metadata import LAYER_KEY, REPORT_KEY

DIGEST_KEY = "qcompile.digests"

_LENGTH = 16  # hex digits of each digest: damage is found with certainty, and a model has hundreds of nodes
_SMALL = 64  # elements: nodes without larger constants need no digest of their own


@dataclass(frozen=True)
class Digests:
    """Digests of the parts of a model, each 16 hex digits of a SHA-256.

    Attributes:
        nodes: Of each node that reads a constant of more than 64 elements: its attributes, its inputs and outputs, and
            the constants that it reads.
        graph: Of all nodes, constants, inputs, outputs and imported operator sets.
        functions: Of the function bodies.
        report: Of the report and of the layers' parts of it.
    """

    nodes: Mapping[str, str]
    graph: str
    functions: str
    report: str

    def to_text(self) -> str:
        """As the metadata holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Digests | None:
        """Inverse of :meth:`to_text`; None where the text is something else."""
        try:
            values = json.loads(text)
            return cls(dict(values["nodes"]), *(str(values[name]) for name in ("graph", "functions", "report")))
        except (ValueError, KeyError, TypeError):
            return None


def digests(model: onnx.ModelProto) -> Digests:
    """The digests of a model as it is now; its values count and not where they are stored."""
    graph = model.graph
    constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
    large = {tensor.name for tensor in graph.initializer if _count(tensor) > _SMALL}
    nodes = [(node, _node(node)) for node in graph.node]
    ends = [item.SerializeToString(deterministic=True) for item in (*graph.input, *graph.output, *model.opset_import)]
    notes = [item.value for owner in (model, *graph.node) for item in owner.metadata_props if _is_report(item.key)]
    return Digests(
        nodes={
            node.name: _digest([content, *(constants[name] for name in node.input if name in constants)])
            for node, content in nodes
            if large & set(node.input)
        },
        graph=_digest([*(content for _, content in nodes), *constants.values(), *ends]),
        functions=_digest(item.SerializeToString(deterministic=True) for item in model.functions),
        report=_digest(note.encode() for note in notes),
    )


def read_digests(model: onnx.ModelProto) -> Digests | None:
    """The digests in a model's metadata, or None where it carries none."""
    text = next((entry.value for entry in model.metadata_props if entry.key == DIGEST_KEY), None)
    return None if text is None else Digests.from_text(text)


def _is_report(key: str) -> bool:
    return key in (REPORT_KEY, LAYER_KEY)


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for side in tensor.dims:
        count *= side
    return count


def _node(node: onnx.NodeProto) -> bytes:
    """A node without what says nothing about its result."""
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.ClearField("metadata_props")
    plain.ClearField("doc_string")
    return plain.SerializeToString(deterministic=True)


def _constant(tensor: onnx.TensorProto) -> bytes:
    found = hashlib.sha256(f"{tensor.name}\0{tensor.data_type}\0{list(tensor.dims)}\0".encode())
    found.update(raw_bytes(tensor))
    return found.digest()


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:_LENGTH]
