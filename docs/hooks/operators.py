"""The operator reference, written from the operators' definitions when the site is built."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from qcompiler.ir.functions import DOMAIN, OPERATORS, OPSET, VERSION, function
from qcompiler.ir.verifier import FUSED_OPS, READABLE_OPS

PAGE = "operators.md"

# What names of inputs, results and attributes mean wherever they occur.
TENSORS = {
    "X": "activations `[..., N, C]`, float32; fused operators take float16 too",
    "W": "codes of the weight, int4 or int8 `[C, D]`, constant",
    "w_scale": "scale of each output, float32 `[D]`, constant",
    "w_blocks": "multiples and zero points of the K blocks of inputs, uint8 `[K, D]`: `16 * multiple + zero point + 8`",
    "groups": "group table, float32 `[G, 6]`: lower, upper, scale, zero point, multiplier, outer",
    "bias": "float32 `[D]`; for attention what is added to the scores `[windows, 1 or H, N, N]`, of the type of `QKV`",
    "residual": "what is added to the result `[..., N, D]`, of the type of `X`",
    "gamma": "scale of the LayerNorm, float32 `[C]`",
    "beta": "shift of the LayerNorm, float32 `[C]`",
    "QKV": "queries, keys and values side by side `[B, N, 3 H d]`, float32 or float16",
    "q_groups": "group table of the queries",
    "k_groups": "group table of the keys",
    "v_groups": "group table of the values",
    "p_groups": "group table of the probabilities",
    "levels": "operand of each code of a probability, uint8",
    "index": "group of each item, int64",
    "codes": "codes, uint8, shape of `X`",
    "multiplier": "multiple of each block, float32 `[..., N, C / block]`",
    "zero_point": "zero point of each block, likewise",
    "scale": "outer scale of each token, float32 `[..., N, 1]`",
    "normalized": "rows divided by their norm",
    "norm": "root mean square of each row, float32 `[..., N, 1]`",
    "Y": "the result, float32; of fused operators, of the type of `X` or `QKV`",
}
ATTRIBUTES = {
    "bits": "width of a code of the activations, 2 to 8",
    "axis": "what an item of a group is: -1 a channel, -2 a row",
    "segments": "1: free scales, one accumulator for each group; 0: one integer product",
    "normalize": "1: rows are divided by their root mean square first",
    "block": "channels of one block",
    "clip": "share of a block's range that its codes cover",
    "slack": "share of a step by which a range may exceed the codes before the multiple goes up",
    "shared": "1: all tokens of an image have one outer scale",
    "rotate": "channels that are rotated together first, a power of two up to 128; 1 for none",
    "epsilon": "of the LayerNorm",
    "approximate": "of GELU: `none` or `tanh`",
    "num_heads": "H",
    "scale": "what scores are multiplied by",
    "qk_bits": "width of the codes of queries and keys",
    "v_bits": "width of the codes of values",
}

_HEAD = f"""# Operators

All operators are of the domain `{DOMAIN}`, version {VERSION}. A model carries the body of each one that it uses, in
standard operators of opset {OPSET}: without the operator library ONNX Runtime runs the body, with it a native kernel of
the same name. The bodies below *are* the definitions; kernels are held to the same integers by tests.

This page is written from the definitions when the site is built.
"""
_SECTIONS = (
    ("Fused operators", "What a finished model holds. Each has a native kernel.", FUSED_OPS),
    (
        "Readable operators",
        "What `--stop-after quantize` writes: explicit quantizers around float products.",
        READABLE_OPS,
    ),
    (
        "Parts",
        "What the bodies above call; no model holds them as nodes.",
        frozenset(OPERATORS) - FUSED_OPS - READABLE_OPS,
    ),
)


def operator_page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for title, text, names in _SECTIONS:
        parts.append(f"## {title}\n\n{text}\n")
        parts += [_operator(function(name)) for name in OPERATORS if name in names]
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the page among the files of the site."""
    files.append(File.generated(config, PAGE, content=operator_page()))
    return files


def _operator(body: onnx.FunctionProto) -> str:
    signature = f"{', '.join(body.output)} = {body.name}({', '.join(body.input)})"
    rows = [f"| input | `{name}` | {TENSORS.get(name, '')} |" for name in body.input]
    rows += [f"| attribute | `{name}` | {ATTRIBUTES.get(name, '')} |" for name in body.attribute]
    rows += [f"| result | `{name}` | {TENSORS.get(name, '')} |" for name in body.output]
    table = "| | name | what |\n|---|---|---|\n" + "\n".join(rows)
    text = "\n".join(f"    {line}" for line in _lines(body))
    return (
        f'### {body.name}\n\n```text\n{signature}\n```\n\n{table}\n\n??? note "Body"\n\n    ```text\n{text}\n    ```\n'
    )


def _lines(body: onnx.FunctionProto) -> Iterable[str]:
    return onnx.printer.to_text(body).rstrip().splitlines()
