"""A plan tried out: the real lowered model on a few images, against the float prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from qcompiler.calibration.inputs import Feed
from qcompiler.driver.annotate import finish
from qcompiler.driver.canonical import float_session
from qcompiler.driver.rewriting import rewrite
from qcompiler.driver.runtime import quantized_session
from qcompiler.evaluation.redraws import redrawn
from qcompiler.ir.importing import to_graph
from qcompiler.ir.weight_files import WeightFiles, model_bytes
from qcompiler.quant.plan import QuantPlan
from qcompiler.quant.prediction_bias import corrected_kl
from qcompiler.relevance.measures import mean_kl


class Trial:
    """Builds and runs plans.

    Args:
        model: Canonical float model.
        feeds: Images that every plan is run on.
        threads: Threads of ONNX Runtime, 0 for all cores.
        corrected: Whether the bias of what the model predicts will be corrected.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Feed], threads: int, *, corrected: bool = False) -> None:
        self._loss = corrected_kl if corrected else mean_kl
        self._model = model
        self._feeds = feeds
        self._threads = threads
        session = float_session(model, threads)
        self._reference = np.concatenate([session.run(None, feed)[0] for feed in feeds])

    def measure(self, plan: QuantPlan, draws: int = 1) -> float:
        """Build, lower and run one plan.

        Args:
            plan: The plan.
            draws: How often every image is run, with other luck at the edges of codes.

        Returns:
            Mean KL divergence to the float prediction over images and draws, in nats.
        """
        with WeightFiles() as files:
            session = quantized_session(built(self._model, plan, files), self._threads)
            losses = []
            for draw in range(draws):
                feeds = (redrawn(feed, draw, number) for number, feed in enumerate(self._feeds))
                logits = [session.run(None, dict(feed))[0] for feed in feeds]
                losses.append(self._loss(self._reference, np.concatenate(logits)))
        return float(np.mean(losses))


def built(model: onnx.ModelProto, plan: QuantPlan, files: WeightFiles | None = None) -> onnx.ModelProto:
    """The lowered model of a plan, without annotations; its weights go to ``files`` where they are large."""
    graph = to_graph(model)
    rewrite(graph, plan)
    return finish(graph, files)


def plain_size(model: onnx.ModelProto, plan: QuantPlan) -> int:
    """Bytes of the lowered model of a plan, without annotations."""
    with WeightFiles() as files:
        return model_bytes(built(model, plan, files))
