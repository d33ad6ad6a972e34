import numpy as np
import pytest

from qcompiler.errors import VerificationError
from qcompiler.ir.fold_sites import fold_sites
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.passes import CANONICALISE
from qcompiler.passes.fold_channel_scales import FoldChannelScales
from qcompiler.passes.fuse_prologue import FusePrologue
from qcompiler.passes.lower_linears import LowerLinears
from qcompiler.passes.quantize_linears import QuantizeLinears
from qcompiler.quant.channelwise import ChannelQuantizer, fold
from qcompiler.quant.plan import ChannelFold, LinearPlan

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, run, weight
from .quantized import weight_codes, with_bodies
from .small_models import small_vit

F32 = np.float32
NORM = "[norm] n = LayerNormalization <axis = -1, epsilon = 0.001> (x, gamma, beta)"
LAYER = "[fc] m = MatMul (n, w)  y = Add (m, b)"
FOLD = ChannelFold("norm", np.array([0.5, 2, 4, 0.25], F32), np.array([1, -1, 0, 2], F32))
OUT = "float[batch, 5, 2] y"


def model(body=LAYER, norm=NORM, outputs=OUT, **extra):
    constants = {
        "gamma": np.array([1, 2, 0, 4], F32),
        "beta": np.array([3, 1, 2, 0], F32),
        "w": np.array([(1, 0), (0, 1), (1, 1), (2, 1)], F32),
        "b": np.array([10, 20], F32),
        "c": np.array([7, 9], F32),
        "roll": np.array([3, 4, 0, 1, 2]),
        "both": np.array([2, 2]),
    }
    text = f"agraph (float[batch, 5, 4] x) => ({outputs}) {{ {norm} {body} }}"
    return model_of(text, **{**constants, **extra})


def passes(found=FOLD):
    return lambda: FoldChannelScales({found.norm: found})


def test_golden():
    """Case 1: gamma / scale, (beta + shift) / scale, rows times scale, and b - shift W = b - (1 + 4, -1 + 2)."""
    check_golden(
        passes(),
        model(),
        """
        x = input [batch, 5, 4]
        %0 [batch, 5, 4] = LayerNormalization(x, [2, 1, 0, 16], [8, 0, 0.5, 8]; axis=-1, epsilon=0.001)  # norm
        %1 [batch, 5, 2] = MatMul(%0, [[0.5, 0], [0, 2], [4, 4], [0.5, 0.25]])  # fc
        %2 [batch, 5, 2] = Add(%1, [5, 19])  # Add_2
        y = output %2
        """,
    )


def test_golden_without_bias():
    """Case 2, an output of the graph; the names."""
    check_golden(
        passes(),
        model("[fc] y = MatMul (n, w)"),
        """
        x = input [batch, 5, 4]
        %0 [batch, 5, 4] = LayerNormalization(x, [2, 1, 0, 16], [8, 0, 0.5, 8]; axis=-1, epsilon=0.001)  # norm
        %1 [batch, 5, 2] = MatMul(%0, [[0.5, 0], [0, 2], [4, 4], [0.5, 0.25]])  # fc
        %2 [batch, 5, 2] = Add(%1, [-5, -1])  # fc/Add
        y = output %2
        """,
    )
    graph, _ = applied(passes(), model("[fc] y = MatMul (n, w)"))
    norm, product, add = graph.nodes
    assert [tensor.name for tensor in norm.inputs[1:]] == ["norm.folded_scale", "norm.folded_bias"]
    assert (product.inputs[1].name, add.inputs[1].name) == ("w/folded", "fc.bias")
    assert add.outputs[0].name == "y"


APPLICABLE = {
    "bias": model(),
    "no bias": model("[fc] y = MatMul (n, w)"),
    "two layers": model(
        "[fc] m = MatMul (n, w)  a = Add (m, b)  [fc2] k = MatMul (n, w2)  y = Add (a, k)", w2=weight(4, 2)
    ),
    "a result read twice": model("[fc] m = MatMul (n, w)  a = Relu (m)  e = Add (m, b)  y = Add (a, e)"),
    "a bias for every token": model(b=weight(5, 2)),
    "a weight with other readers": model("[fc] m = MatMul (n, w)  [other] k = MatMul (x, w)  y = Add (m, k)"),
    "tokens rolled and cut into windows": model(
        """h, k = Split <axis = 1> (n, parts)  r = Concat <axis = 1> (k, h)  g = Reshape (r, windows)
        t = Transpose <perm = [1, 0, 2, 3]> (g)  [fc] y = MatMul (t, w)""",
        outputs="float[5, batch, 1, 2] y",
        parts=np.array([2, 3]),
        windows=np.array([0, 5, 1, 4]),
    ),
    "tokens moved and averaged": model(
        "g = Gather <axis = 1> (n, roll)  r = ReduceMean <keepdims = 1> (g, one)  [fc] y = MatMul (r, w)",
        outputs="float[batch, 1, 2] y",
        one=np.array([1]),
    ),
}


def nothing_folds(body, **options):
    return model(f"{LAYER} {body}", outputs=f"{OUT}, float[batch, 5, 4] z", **options)


ELSE = r"it is read by something else than linear layers"
REFUSED = {
    "not linear": (nothing_folds("z = Relu (n)"), rf"{ELSE} \(Relu 'Relu_3'\)"),
    "residual": (nothing_folds("z = Add (n, x)"), rf"{ELSE} \(Add 'Add_3'\)"),
    "computed weight": (
        model("t = Abs (w)  m = MatMul (n, t)  y = Add (m, b)"),
        rf"{ELSE} \(MatMul 'MatMul_2'\)",
    ),
    "an output": (
        model(outputs=f"{OUT}, float[batch, 5, 4] n"),
        "its result is an output of the graph",
    ),
    "no bias": (model(norm=NORM.replace(", beta", "")), "it has no constant scale and bias over the last axis"),
    "nothing behind it": (model("z = MatMul (x, w)  y = Add (z, b)"), "no linear layer reads it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Case 3: the whole graph stays, also the layers that could be folded."""
    made, reason = REFUSED[case]
    check_unchanged(passes(), made, reason=f"^norm: {reason}")


def test_not_applicable_to_norms_that_the_plan_does_not_name():
    """And not worth a refusal."""
    check_unchanged(lambda: FoldChannelScales({}), model())
    assert applied(lambda: FoldChannelScales({}), model())[1].refusals == ()


@pytest.mark.parametrize("case", APPLICABLE)
def test_idempotent(case):
    """Case 4: the same plan does not fold twice."""
    check_idempotent(passes(), APPLICABLE[case])


def test_idempotent_in_a_file():
    """The mark is a name: it survives writing and reading, also where two norms share their parameters."""
    second = NORM.replace("[norm] n", "[norm2] k")
    made = model(f"{second} {LAYER} [fc2] z = MatMul (k, w)", outputs=f"{OUT}, float[batch, 5, 2] z")
    folds = {name: ChannelFold(name, FOLD.scale, FOLD.shift) for name in ("norm", "norm2")}
    graph, report = applied(lambda: FoldChannelScales(folds), made)
    assert report.applied == 2
    again = to_graph(to_model(graph))
    assert fold_sites(again) == ()
    (report,) = run_passes(again, [FoldChannelScales(folds)])
    assert report.applied == 0
    check_equal(lambda: FoldChannelScales(folds), made, 1e-5, x=weight(3, 5, 4))


@pytest.mark.parametrize("name", ["norm9", "fc"])
def test_a_plan_for_another_graph(name):
    with pytest.raises(
        VerificationError, match=f"the plan names '{name}', which is no LayerNormalization of the graph"
    ):
        applied(passes(ChannelFold(name, FOLD.scale, FOLD.shift)), model())


def test_a_plan_for_other_channels():
    wrong = ChannelFold("norm", np.ones(3, F32), np.zeros(3, F32))
    with pytest.raises(VerificationError, match=r"the fold of 'norm' is for a scale of shape \(3,\), not \(4,\)"):
        applied(passes(wrong), model())


@pytest.mark.parametrize("case", APPLICABLE)
def test_numerical_oracle(case):
    # 1e-5: factors and shifts are applied at other places.
    check_equal(passes(), APPLICABLE[case], 1e-5, x=weight(3, 5, 4, seed=3))


def test_numerical_oracle_of_a_transformer():
    """All norms of a block and the one in front of the head, factors over three octaves."""
    graph = to_graph(small_vit())
    run_passes(graph, [item() for item in CANONICALISE])
    made = to_model(graph)
    rng = np.random.default_rng(0)
    folds = {
        site.norm: ChannelFold(site.norm, np.exp2(rng.uniform(-3, 3, 8)).astype(F32), rng.normal(0, 2, 8).astype(F32))
        for site in fold_sites(graph)
    }
    assert len(folds) == 3
    check_equal(lambda: FoldChannelScales(folds), made, 1e-5, x=weight(3, 3, 4, 4, seed=4))


def test_numerical_oracle_of_the_quantized_layer():
    """Folded, quantized and lowered: the output of an unfolded quantizer for every channel, in float64."""
    rng = np.random.default_rng(1)
    scale, zero = rng.uniform(0.05, 0.5, 8).astype(F32), rng.integers(-20, 30, 8).astype(F32)
    found, table = fold(ChannelQuantizer(scale, zero), 4, "norm")
    # Outputs of the LayerNormalization lie within the codes of their channels, most of them off the boundaries.
    gamma, beta = 4 * scale, scale * (F32(7.4) - zero)
    codes = weight_codes(8, 3)
    # What calibration would have quantized: the folded weight.
    text = f"agraph (float[batch, 5, 8] x) => ({OUT.replace('2]', '3]')}) {{ {NORM} {LAYER} }}"
    made = model_of(text, gamma=gamma, beta=beta, w=codes.dequantized() / found.scale[:, None], b=weight(3))
    graph = to_graph(made)
    plan = {"fc": LinearPlan("fc", codes, table, normalize=False)}
    run_passes(
        graph,
        [FoldChannelScales({"norm": found}), QuantizeLinears(plan), LowerLinears(), FusePrologue()],
        verify_each=True,
    )
    assert [node.op for node in graph.nodes] == ["LayerNormGroupLinear"]
    x = weight(40, 5, 8, seed=5)
    (y,) = run(with_bodies(to_model(graph)), {"x": x})

    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    normalized = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-3) * gamma + beta
    steps = normalized / scale
    read_back = (np.clip(np.rint(steps) + zero, 0, 15) - zero) * scale
    expected = read_back @ (codes.dequantized() / found.scale[:, None]).astype(np.float64) + weight(3)
    fixed = np.all(np.abs(np.abs(steps - np.rint(steps)) - 0.5) > 1e-4, axis=-1)
    assert fixed.mean() > 0.9
    # 1e-5 of the largest output: float32 sums with large shifts. A code that is off moves it by 100 times as much.
    np.testing.assert_allclose(y[fixed], expected[fixed], rtol=0, atol=1e-5 * np.abs(expected).max())
