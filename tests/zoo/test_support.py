from qcompiler.report.coverage import FloatProduct

from .outcome import Outcome
from .support import table


def outcome(*reasons, error=0.012):
    left = tuple(FloatProduct(f"n{index}", "MatMul", 10, reason) for index, reason in enumerate(reasons))
    return Outcome(7, 2, left, 0.987, error, (0.0,), ("y",), ())


def test_rows():
    rows = [
        ("ViT", outcome()),
        ("SigLIP", outcome("attention: cross-attention with 1 queries and 9 keys", "attention: cross-attention")),
        ("new", outcome("some other reason", "grouped convolution; of convolutions ...", error=0.0004)),
    ]
    assert table(rows).splitlines()[2:] == [
        "| ViT | 7 | 2 | 99 % | - | 1.2 % |",
        "| SigLIP (pooling by a learned query) | 7 | 2 | 99 % | cross-attention | 1.2 % |",
        "| new | 7 | 2 | 99 % | some other reason, convolutions | 0.0 % |",
    ]
