"""Tables of finished models."""

import io

from rich.console import Console

from qcompiler.evaluation.accuracy import Accuracy
from qcompiler.evaluation.agreement import Agreement
from qcompiler.evaluation.latency import Latency
from qcompiler.evaluation.output_agreement import OutputAgreement
from qcompiler.report.comparison import accuracy_table, latency_table, outputs_table


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


def test_outputs():
    outputs = {"boxes": OutputAgreement(0.0123, 41.26), "same": OutputAgreement(0.0, None)}
    text = shown(outputs_table({"int.onnx": Agreement(8, outputs)}, "8 images"))
    rows = [line.split() for line in text.splitlines() if "int.onnx" in line]
    assert rows == [["int.onnx", "boxes", "0.0123", "41.3"], ["int.onnx", "same", "0.0000", "-"]]
    outputs["scores"] = OutputAgreement(0.1, 30.0, 87.5, 1.0, 0.01)
    rows = [line.split() for line in shown(outputs_table({"m": Agreement(8, outputs)}, "")).splitlines()]
    assert ["m", "scores", "0.1000", "30.0", "87.50"] in rows


def test_latency():
    results = (Latency("float", 2, 1, 9, 40.0, 1.0, 1.0, 1.0), Latency("igq", 2, 1, 9, 20.0, 2.0, 1.9, 2.1))
    text = shown(latency_table(results))
    assert "batch 2, 1 thread, 9 interleaved rounds" in text
    assert "igq 20.000 2.00 1.90 .. 2.10" in [" ".join(line.split()) for line in text.splitlines()]


def test_threads_in_words():
    for threads, words in ((0, "all threads"), (4, "4 threads")):
        assert words in shown(latency_table((Latency("f", 1, threads, 1, 1.0, 1.0, 1.0, 1.0),)))
