"""The support tables, and that those of the documents are of the families that the tests hold."""

import re

import pytest

from qcompiler.report.coverage import FloatProduct

from .expected import EXPECTED
from .outcome import Outcome
from .support import BEGIN, END, ROOT, between_marks, compact, families_in, table


def outcome(*reasons, error=0.012, psnr=None):
    left = tuple(FloatProduct(f"n{index}", "MatMul", 10, reason) for index, reason in enumerate(reasons))
    return Outcome(7, 2, left, 0.987, error, psnr, (0.0,), ("y",), ())


ROWS = [
    ("ViT", outcome()),
    ("SigLIP", outcome("attention: cross-attention with 1 queries and 9 keys", "attention: cross-attention")),
    ("new", outcome("some other reason", "grouped convolution; of convolutions ...", error=0.0004, psnr=41.6)),
]


def test_rows():
    assert table(ROWS).splitlines()[2:] == [
        "| ViT | 7 | 2 | 99 % | - | 1.2 % | - |",
        "| SigLIP (pooling by a learned query) | 7 | 2 | 99 % | cross-attention | 1.2 % | - |",
        "| new | 7 | 2 | 99 % | some other reason, convolutions | 0.0 % | 42 dB |",
    ]


def test_compact_rows():
    assert compact(ROWS).splitlines()[2:] == [
        "| ViT | 99 % | 1.2 % | - |",
        "| SigLIP | 99 % | 1.2 % | cross-attention |",
        "| new | 99 % | 0.0 % | some other reason, convolutions |",
    ]


def test_what_stands_between_the_marks_is_replaced():
    text = between_marks(f"before\n{BEGIN}\nold\n{END}\nafter\n", table(ROWS))
    assert text.startswith(f"before\n{BEGIN}\n| model |")
    assert text.endswith(f"|\n{END}\nafter\n")
    assert families_in(text) == ["ViT", "SigLIP", "new"]
    assert between_marks(text, table(ROWS)) == text
    with pytest.raises(ValueError, match="once each"):
        between_marks(BEGIN, "")


def numbers(text):
    """Share and error of every row between the marks."""
    rows = [row for row in text.partition(BEGIN)[2].partition(END)[0].splitlines() if row.startswith("|")][2:]
    return [re.findall(r"[\d.]+ %", row) for row in rows]


def test_the_documents_name_the_families_of_the_tests():
    readme, models = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/models.md"))
    assert families_in(models) == families_in(readme) == list(EXPECTED)
    assert numbers(models) == numbers(readme)
