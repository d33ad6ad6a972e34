import pytest

from qcompiler.ir.dims import (
    Batch,
    UnresolvableError,
    at_batch,
    collapse,
    equal,
    fixed,
    from_text,
    product,
    reshape_target,
    to_text,
)

B = Batch(1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (B * 64, Batch(64)),
        (64 * B, Batch(64)),
        (Batch(64) // 16, Batch(4)),
        (Batch(64) // Batch(16), 4),
        (Batch(64) / 64.0, B),
        (Batch(64) % 16, 0),
        (B * 0, 0),
        (B + 0, B),
        (B + Batch(2), Batch(3)),
        (Batch(3) - Batch(3), 0),
        (-B * -1, B),
    ],
)
def test_arithmetic(value, expected):
    assert value == expected


@pytest.mark.parametrize(
    "expression",
    [lambda: B + 1, lambda: 1 - B, lambda: Batch(3) // 2, lambda: Batch(3) % 2, lambda: B * B, lambda: B * 0.5],
)
def test_what_has_no_value_is_an_error(expression):
    with pytest.raises(UnresolvableError):
        expression()


def test_equality_is_decided_where_every_batch_agrees():
    assert equal(B, B)
    assert not equal(B, -1)
    assert not equal(Batch(4), 6)
    assert not equal(Batch(4), 2)
    with pytest.raises(UnresolvableError):
        equal(B, 3)
    with pytest.raises(UnresolvableError):
        equal(8, Batch(4))


def test_text_and_back():
    assert [to_text(dim, "batch") for dim in (3, B, Batch(64))] == [3, "batch", "64*batch"]
    texts = (3, "batch", "64*batch", "other", None)
    assert [from_text(text, "batch") for text in texts] == [3, B, Batch(64), None, None]


def test_products():
    assert product([2, B, Batch(3)]) == (6, 2)
    assert collapse([2, Batch(3)]) == Batch(6)
    assert collapse([2, 3]) == 6
    with pytest.raises(UnresolvableError):
        collapse([B, B])
    assert at_batch((Batch(64), 49), 2) == (128, 49)
    assert fixed(5) == 5
    with pytest.raises(UnresolvableError):
        fixed(B)


@pytest.mark.parametrize(
    ("before", "after", "target"),
    [
        ((B, 4, 6), (B, 24), [0, 24]),
        ((B, 4, 6), (Batch(4), 6), [-1, 6]),
        ((2, 4), (8,), [8]),
        ((Batch(4), 6), (B, 4, 6), [-1, 4, 6]),
        ((3, B), (B, Batch(3)), None),
    ],
)
def test_reshape_target(before, after, target):
    assert reshape_target(before, after) == target
