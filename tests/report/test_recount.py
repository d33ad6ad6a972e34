"""Budgets counted from a file alone, against counts by hand and against what the compiler says it spent."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import UnsupportedModelError
from qcompiler.options import CompileOptions
from qcompiler.quant.bookkeeping import weight_bytes
from qcompiler.report.metadata import LAYER_KEY, REPORT_KEY
from qcompiler.report.recount import count_layers, recount

from ..driver.tiny import save
from . import transformers
from .samples import float_model, readable_model

# Per image: multiply-accumulates, bits of each, operations of 32 bits for bookkeeping, whether the widths are fixed.
VIT = {
    # Ranges and a step for each row; a block that is the whole row has nothing to rescale.
    "embed": (4 * 4 * 8, 7 * 8, 4 * 4 + 4, True),
    # Ranges, steps of 2 blocks of each row, 1 stage of rotation; rescales of 2 blocks of inputs and of 4 of weights.
    "qkv": (4 * 8 * 24, 4 * 4, 32 + 8 + 32 + 96 * 2 + 96 * 4, False),
    # Two products of 2 heads; ranges and steps of q, k and v; ranges of probabilities, and rows to 3 groups.
    "attn": (2 * (2 * 4 * 4 * 4), (16 + 25) / 2, 3 * (32 + 8) + 32 + 8 * 3, False),
    # 3 stages of rotation; the weights hold 5 bits.
    "proj": (4 * 8 * 8, 6 * 5, 32 + 4 + 3 * 32, False),
    # Row norms, ranges, 8 channels to 4 groups; the weights hold 3 bits.
    "fc1": (4 * 8 * 16, 3 * 3, 32 + 32 + 8 * 4, False),
    # Ranges, 16 channels to 5 groups, rescales of 5 segments; the weights hold 2 bits.
    "fc2": (4 * 16 * 8, 4 * 2, 64 + 16 * 5 + 32 * 5, False),
    # One row, its norm, and one group, which needs no range.
    "head": (8 * 3, 8 * 8, 8, True),
}
WINDOWS = {
    "embed": (8 * 4 * 8, 8 * 8, 0, True),
    # The 8 channels of each of 2 windows are sorted on their own; 4 blocks of weights.
    "qkv": (8 * 8 * 24, 4 * 4, 64 + 2 * 8 * 4 + 192 * 4, False),
    # Rows of q to 2 groups, k static, channels of v to 4 groups, rows of probabilities to 3.
    "attn": (2 * (4 * 4 * 4 * 4), 4 * 4, (64 + 16 * 2) + (64 + 16 * 4) + (64 + 16 * 3), False),
    "head": (8 * 3, 5 * 8, 8 + 1, True),
    "distilled": (8 * 3, 5 * 8, 8 + 1, True),
}
READABLE = {
    "fc": (5 * 8 * 8, 4 * 4, 40 + 10 + 40 + 40 * 2 + 40 * 4, False),
    # Rows of q have one block each; k has blocks of 2 within the sum over 8 channels.
    "scores": (5 * 8 * 5, 3 * 3, 40 + 5 + 40 + 20 + 25 * 4, False),
}


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize(
    ("make", "expected"),
    [(transformers.vit, VIT), (transformers.windows, WINDOWS), (transformers.readable, READABLE)],
    ids=["vit", "windows", "readable"],
)
def test_counts_by_hand(make, expected, batch):
    found = count_layers(make(batch))
    assert {
        count.name: (count.macs, count.products / count.macs, count.bookkeeping / 32, count.fixed) for count in found
    } == expected
    assert [count.name for count in found] == list(expected)


def test_the_whole_model():
    model = transformers.vit()
    found = recount(model)
    free = [layer for layer in VIT.values() if not layer[3]]
    assert found.products == sum(macs * bits for macs, bits, _, _ in free)
    assert found.products_w8a8 == 64 * sum(macs for macs, *_ in free)
    assert found.bookkeeping == 32 * sum(operations for _, _, operations, _ in free)
    assert found.fixed == sum(macs * bits + 32 * extra for macs, bits, extra, fixed in VIT.values() if fixed)
    assert found.bytes == len(model.SerializeToString())
    # Codes of a byte in embed, proj and head, of half a byte else; a float for each output; a byte for each block.
    codes = 4 * 8 + 8 * 24 // 2 + 8 * 8 + 8 * 16 // 2 + 16 * 8 // 2 + 8 * 3
    assert found.weight_bytes == codes + 4 * (8 + 24 + 8 + 16 + 8 + 3) + (8 + 4 * 24 + 8 + 16 + 8 + 3)
    assert found.fraction_of_w8a8 == found.products / found.products_w8a8
    assert found.overhead == found.bookkeeping / found.products
    values = json.loads(json.dumps(found.to_dict()))
    assert (values["weight_bytes"], values["overhead"]) == (found.weight_bytes, found.overhead)


def test_readable_groups_by_hand():
    """Free scales behind row norms; a product of rows with a codebook of 3 operands and columns."""
    fc, scores = count_layers(readable_model())
    assert (fc.macs, fc.products, fc.fixed) == (5 * 4 * 6, 120 * 16, True)
    assert fc.bookkeeping == 32 * (20 + 20 + 4 * 5 + 30 * 5)
    assert (scores.macs, scores.products, scores.bookkeeping) == (150, 150 * 36, 2 * 32 * (30 + 5 * 2))


@pytest.mark.parametrize(
    ("code", "bits"),
    [(0, 2), (1, 2), (-2, 2), (2, 3), (-4, 3), (7, 4), (-8, 4), (-9, 5), (15, 5), (-31, 6), (32, 7), (-64, 7), (64, 8)],
)
def test_weights_have_the_width_that_their_codes_need(code, bits):
    codes = np.zeros((8, 8), np.int8)
    codes[3, 5] = code
    proj = next(count for count in count_layers(transformers.vit(wp=codes)) if count.name == "proj")
    assert proj.products == proj.macs * 6 * bits


@pytest.mark.parametrize(("count", "byte", "rescales"), [(1, 0x18, 0), (1, 0x19, 1), (2, 0x18, 2), (8, 0x28, 8)])
def test_blocks_of_a_weight(count, byte, rescales):
    model = transformers.vit(wp_blocks=transformers.blocks(count, 8, byte))
    proj = next(count for count in count_layers(model) if count.name == "proj")
    assert proj.bookkeeping == 32 * (VIT["proj"][2] + 4 * 8 * rescales)


@pytest.mark.parametrize(("operands", "bits"), [(2, 5), (32, 5), (33, 6), (100, 7)])
@pytest.mark.parametrize("length", [None, 128])
def test_probabilities_are_no_wider_than_the_values_for_free(operands, bits, length):
    levels = np.arange(operands, dtype=np.uint8)
    codebook = levels if length is None else np.resize(levels, length)
    attention = next(count for count in count_layers(transformers.vit(levels=codebook)) if count.name == "attn")
    assert attention.products == attention.macs // 2 * (16 + 5 * bits)


def test_metadata_has_no_part_in_it():
    plain, told = transformers.vit(), transformers.vit()
    told.metadata_props.add(key=REPORT_KEY, value='{"bops": {"products": 1}}')
    for node in told.graph.node:
        node.metadata_props.add(key=LAYER_KEY, value='{"products": 1, "weight_bits": 2, "fixed": true}')
    assert count_layers(told) == count_layers(plain)


def test_no_code_of_the_budgets_is_shared():
    shared = ["bops", "bookkeeping", "sites", "plan"]
    program = f"""import sys, qcompiler.report.recount
print([name for name in {shared} if f'qcompiler.quant.{{name}}' in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_mlp_or_a_projection_at_the_end_is_no_head():
    model = transformers.vit()
    del model.graph.node[-3:]  # what stands behind fc2
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("h2", onnx.TensorProto.FLOAT, None))
    assert [count.name for count in count_layers(model) if count.fixed] == ["embed"]
    while model.graph.node[-1].name != "proj":
        del model.graph.node[-1]
    model.graph.output[0].name = "h1"
    assert [count.name for count in count_layers(model) if count.fixed] == ["embed"]


def test_a_size_that_the_file_leaves_open():
    model = transformers.windows()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    with pytest.raises(UnsupportedModelError, match="does not fix the size of 'x'"):
        recount(model)


def test_a_float_model_has_nothing_to_count():
    found = recount(float_model())
    assert (found.products, found.bookkeeping, found.fixed, found.weight_bytes) == (0, 0, 0, 0)
    assert (found.fraction_of_w8a8, found.overhead) == (0, 0)


# Decisions for the tiny transformer: every scheme, narrow codes in a byte, and both kinds of attention.
LINEARS = {
    "patch.proj": {"weight_bits": 8, "activation_bits": 8, "groups": 1},
    "attn.qkv": {
        "weight_bits": 4,
        "activation_bits": 3,
        "weight_block": 8,
        "scheme": "blocks",
        "block": 8,
        "rotate": 4,
    },
    "attn.proj": {"weight_bits": 5, "activation_bits": 4, "groups": 4},
    "mlp.fc1": {"weight_bits": 3, "activation_bits": 5, "scheme": "folded"},
    "mlp.fc2": {"weight_bits": 2, "activation_bits": 6, "scheme": "blocks", "rotate": 16},
    "head": {"weight_bits": 8, "activation_bits": 8, "groups": 1},
}
ATTENTIONS = {
    "blocks": {"qk_bits": 4, "value_bits": 5, "scheme": "blocks", "groups": 2},
    "groups": {"qk_bits": 3, "value_bits": 3, "scheme": "groups", "groups": 4},
}


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("tiny"))


def compiled(path, attention, **options):
    """The tiny transformer by the decisions above; the name of its Softmax is read from a first plan."""
    plan = path.parent / "plan.json"
    if not plan.exists():
        small = {"group_candidates": (1,), "probe_images": 2, "images": 2, "executor": "inline", "overhead_budget": 10}
        compile_model(path, CompileOptions(bits="w8a8", method="igq", save_plan=plan, threads=1, **small))
    (softmax,) = json.loads(plan.read_text())["attentions"]
    decisions = path.parent / f"{attention}.json"
    values = {"format": 1, "linears": LINEARS, "attentions": {softmax: ATTENTIONS[attention]}}
    decisions.write_text(json.dumps(values))
    return compile_model(path, CompileOptions(bits_file=decisions, overhead_budget=10, images=8, threads=1, **options))


@pytest.mark.parametrize("groups", ["integer", "exact"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_compiler_spends_what_it_says(tiny_path, attention, groups):
    result = compiled(tiny_path, attention, groups=groups)
    told = {layer.name: layer for layer in result.report.layers}
    found = {count.name: count for count in count_layers(result.model)}
    assert found.keys() == told.keys()
    spent = {name: (count.products, count.bookkeeping, count.fixed) for name, count in found.items()}
    assert spent == {name: (layer.products, layer.bookkeeping, layer.fixed) for name, layer in told.items()}
    whole, bops = recount(result.model), result.report.bops
    assert (whole.products, whole.products_w8a8) == (bops.products, bops.products_w8a8)
    assert (whole.bookkeeping, whole.fixed, whole.bytes) == (bops.bookkeeping, bops.fixed, result.report.bytes_after)
    linear = [layer for layer in told.values() if layer.weight_bits is not None]
    sizes = [weight_bytes(layer.inner, layer.outputs, layer.weight_bits, layer.weight_block) for layer in linear]
    assert whole.weight_bytes == sum(sizes)


def test_both_forms_of_a_model_count_alike(tiny_path):
    for attention in ATTENTIONS:
        fused = recount(compiled(tiny_path, attention).model)
        readable = recount(compiled(tiny_path, attention, stop_after="quantize").model)
        for name in ("products", "products_w8a8", "bookkeeping", "fixed"):
            assert getattr(readable, name) == getattr(fused, name), (attention, name)
