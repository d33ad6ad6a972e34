"""Discrepancy of one quantizer: how far the prediction moves when that quantizer alone is switched on.

This is the measure that IGQ-ViT's group counts are chosen by: ``Psi_l(g) = mean KL(p_float || p_quantized)``. Only the
part of the model behind the operand runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from qcompiler.calibration.inputs import Feed
from qcompiler.ir.outputs import with_outputs
from qcompiler.quant.divergence import kl_divergence
from qcompiler.quant.groups import F32
from qcompiler.relevance.suffix import Operand, SuffixGraph, run_suffix, suffix_session

Simulation = Callable[[F32], F32]


class DiscrepancyProbe:
    """Measures quantizers one at a time on a few images.

    Args:
        model: Canonical float model with float32 activations.
        feeds: Probe images; every feed is run as it is.
        operands: Operands that will be asked for.
        threads: Threads of ONNX Runtime for the one float run; a measurement uses one thread, so that several can be
            made side by side.
    """

    def __init__(
        self, model: onnx.ModelProto, feeds: Sequence[Feed], operands: Iterable[Operand], threads: int = 0
    ) -> None:
        self._graph = SuffixGraph(model)
        wanted: dict[str, None] = {}
        for operand in operands:
            wanted.update(dict.fromkeys([operand.tensor, *self._graph.frontier(operand)]))
        inputs = {item.name for item in model.graph.input}
        names = [name for name in wanted if name not in inputs]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = ort.InferenceSession(
            with_outputs(model, names).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        output = model.graph.output[0].name
        self._values: list[dict[str, Any]] = []
        self._logits: list[F32] = []
        for feed in feeds:
            logits, *values = session.run([output, *names], feed)
            self._logits.append(logits)
            self._values.append({**feed, **dict(zip(names, values, strict=True))})

    def measure(self, operand: Operand, simulations: Sequence[Simulation]) -> list[float]:
        """Mean KL divergence of the prediction for each way of quantizing one operand.

        Args:
            operand: One of the operands given at construction.
            simulations: Functions from the float operand to the quantized one, shape and dtype kept.

        Returns:
            Nats per image, one entry per simulation.
        """
        session = suffix_session(self._graph, operand, threads=1)
        frontier = self._graph.frontier(operand)
        reference = np.concatenate(self._logits)
        found = []
        for simulate in simulations:
            logits = [
                run_suffix(session, simulate(values[operand.tensor]), frontier, values) for values in self._values
            ]
            found.append(mean_kl(reference, np.concatenate(logits)))
        return found


def mean_kl(reference: F32, logits: F32) -> float:
    """Mean over images of ``KL(softmax(reference) || softmax(logits))``, in nats; both ``[images, classes]``."""
    expected, found = (x.reshape(len(x), -1).astype(np.float64) for x in (reference, logits))
    return float(kl_divergence(expected, found).mean())
