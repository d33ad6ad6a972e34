"""A file against the digests that were taken of it when it was written."""

from __future__ import annotations

import onnx

from qcompiler.report.digests import digests, read_digests
from qcompiler.verification.checks import Check, judged


def check_contents(model: onnx.ModelProto) -> Check:
    """Nothing was changed since the file was written; what was is named."""
    written = read_digests(model)
    if written is None:
        return Check("contents", "skipped", "the file carries no digests: another tool or an older qcompile wrote it")
    now = digests(model)
    problems = [
        f"node '{name}' or a constant that it reads {'was changed' if name in now.nodes else 'is missing'}"
        for name, digest in written.nodes.items()
        if now.nodes.get(name) != digest
    ]
    if now.graph != written.graph and not problems:
        problems.append("the graph was changed (its nodes, small constants, inputs, outputs or operator sets)")
    if now.functions != written.functions:
        problems.append("the function bodies were changed")
    if now.report != written.report:
        problems.append("the report in the metadata was changed")
    return judged("contents", problems, f"as they were written ({len(now.nodes)} nodes with constants)")
