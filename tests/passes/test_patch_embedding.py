import numpy as np
import pytest

from qcompiler.passes.patch_embedding import PatchEmbedding

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

CONV = "c = Conv <ATTRS> (x, w, b)"
STRIDE = "kernel_shape = [2, 2], strides = [2, 2]"
VIT = "f = Reshape (c, s)  y = Transpose <perm = [0, 2, 1]> (f)"
SWIN = "y = Transpose <perm = [0, 2, 3, 1]> (c)"
PLAIN = "y = Relu (c)"
SHAPES = {VIT: "[batch, 6, 5]", SWIN: "[batch, 2, 3, 5]", PLAIN: "[batch, 5, 2, 3]"}


def graph(tail=VIT, attrs=STRIDE, batch="batch", kernel=(2, 2)):
    text = f"agraph (float[batch, 3, 4, 6] x) => (float{SHAPES[tail]} y) {{ {CONV.replace('ATTRS', attrs)} {tail} }}"
    constants = {"s": np.array([0, 5, -1]), "w": weight(5, 3, *kernel), "b": np.arange(5, dtype=np.float32)}
    return model_of(text.replace("batch", batch), **constants)


def test_golden():
    check_golden(
        PatchEmbedding,
        graph(),
        """
        x = input [batch, 3, 4, 6]
        %0 [batch, 3, 2, 2, 3, 2] = Reshape(x, [0, 3, 2, 2, 3, 2])  # Conv_0/Reshape
        %1 [batch, 2, 3, 3, 2, 2] = Transpose(%0; perm=[0, 2, 4, 1, 3, 5])  # Conv_0/Transpose
        %2 [batch, 6, 12] = Reshape(%1, [0, 6, 12])  # Conv_0/Reshape_1
        %3 [batch, 6, 5] = MatMul(%2, w/matrix:float32[12, 5])  # Conv_0/MatMul
        %4 [batch, 6, 5] = Add(%3, [0, 1, 2, 3, 4])  # Conv_0/Add
        y = output %4
        """,
    )


@pytest.mark.parametrize(("tail", "left"), [(VIT, []), (SWIN, ["Reshape"]), (PLAIN, ["Reshape", "Transpose", "Relu"])])
def test_golden_layout_operators_are_merged(tail, left):
    graph_, _ = applied(PatchEmbedding, graph(tail))
    assert [node.op for node in graph_.nodes] == ["Reshape", "Transpose", "Reshape", "MatMul", "Add", *left]


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ("kernel_shape = [2, 2], strides = [1, 2]", "stride is not the kernel"),
        (STRIDE + ", pads = [0, 0, 2, 2]", "padded"),
        (STRIDE + ", dilations = [2, 2]", "dilated"),
        ("kernel_shape = [3, 3], strides = [3, 3]", "does not divide the image"),
    ],
)
def test_not_applicable(attrs, reason):
    kernel = (3, 3) if "3, 3" in attrs else (2, 2)
    model = graph(PLAIN, attrs, kernel=kernel)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    check_unchanged(PatchEmbedding, model, reason=reason)


@pytest.mark.parametrize("tail", SHAPES)
def test_idempotent(tail):
    check_idempotent(PatchEmbedding, graph(tail))


@pytest.mark.parametrize("batch", ["batch", "1", "2"])
@pytest.mark.parametrize("tail", SHAPES)
def test_numerical_oracle(tail, batch):
    # 1e-6: twelve products summed in another order.
    size = 3 if batch == "batch" else int(batch)
    check_equal(PatchEmbedding, graph(tail, batch=batch), 1e-6, x=weight(size, 3, 4, 6, seed=2))


@pytest.mark.parametrize("batch", ["batch", "2"])
def test_several_regions_of_an_image(batch):
    """Each image is cut into regions first: the convolution sees several times as many images."""
    model = model_of(
        f"""agraph (float[{batch}, 3, 4, 8] x) => (float[n, 5, 2, 2] y) {{
        r = Reshape (x, regions)  c = Conv <kernel_shape = [2, 2], strides = [2, 2]> (r, w, b)  y = Relu (c) }}""",
        regions=np.array([-1, 3, 4, 4]),
        w=weight(5, 3, 2, 2),
        b=np.arange(5, dtype=np.float32),
    )
    check_equal(PatchEmbedding, model, 1e-6, x=weight(2, 3, 4, 8))
