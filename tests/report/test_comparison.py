"""Tables of finished models."""

import io

from rich.console import Console

from qcompiler.evaluation.accuracy import Accuracy
from qcompiler.evaluation.latency import Latency
from qcompiler.report.comparison import accuracy_table, latency_table


def shown(part):
    stream = io.StringIO()
    Console(file=stream, width=200, highlight=False).print(part)
    return stream.getvalue()


def test_accuracy():
    results = (
        Accuracy("float.onnx", 650, 82.77, 1.48, 0.0, 0.0, 100.0, 0.0),
        Accuracy("igq.onnx", 650, 72.92, 1.74, 9.85, 1.41, 80.15, 0.5123),
    )
    text = shown(accuracy_table(results, "650 images"))
    reference, quantized = (line.split() for line in text.splitlines() if ".onnx" in line)
    assert reference == ["float.onnx", "82.77", "+-", "1.48", "-", "-", "-"]
    assert quantized == ["igq.onnx", "72.92", "+-", "1.74", "9.85", "+-", "1.41", "80.15", "0.5123"]
    assert "650 images" in text


def test_latency():
    results = (Latency("float", 2, 1, 9, 40.0, 1.0, 1.0, 1.0), Latency("igq", 2, 1, 9, 20.0, 2.0, 1.9, 2.1))
    text = shown(latency_table(results))
    assert "batch 2, 1 thread, 9 interleaved rounds" in text
    assert "igq 20.000 2.00 1.90 .. 2.10" in [" ".join(line.split()) for line in text.splitlines()]


def test_threads_in_words():
    for threads, words in ((0, "all threads"), (4, "4 threads")):
        assert words in shown(latency_table((Latency("f", 1, threads, 1, 1.0, 1.0, 1.0, 1.0),)))
