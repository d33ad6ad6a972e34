"""Layer-wise relevance propagation on the ONNX graph: how much of a prediction passes through each layer.

Relevance starts at the prediction and goes back node by node (:mod:`.lrp_rules`). The sum over a cut of the graph tells
nothing about layers, because it is conserved; a layer's score is its part of the absolute relevance
``Omega_l = mean_x |R_l|_1 / sum_k |R_k|_1``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qcompiler.errors import CalibrationDataError, OptionError, UnsupportedModelError
from qcompiler.relevance.lrp_shares import GAMMA, RULES, ZPLUS
from qcompiler.relevance.lrp_sweep import F64, Feed, Sweep

__all__ = ["GAMMA", "RULES", "ZPLUS", "Conservation", "LayerRelevance", "RelevanceResult"]


@dataclass(frozen=True)
class Conservation:
    """What is left of the relevance at a tensor that all of it passes through.

    Attributes:
        tensor: Name of the tensor.
        mean: Signed sum of its relevance over the relevance at the start, mean over the images.
        spread: Standard deviation over the images.
    """

    tensor: str
    mean: float
    spread: float


@dataclass(frozen=True)
class RelevanceResult:
    """Relevance of the layers.

    Attributes:
        rule: Rule of the linear layers, one of ``RULES``.
        images: Images that had any relevance.
        scores: Layer -> Omega; the scores add up to 1.
        stream: Conservation along the residual stream in graph order, the tokens (what block 0 reads) first.
    """

    rule: str
    images: int
    scores: Mapping[str, float]
    stream: tuple[Conservation, ...]

    @property
    def tokens(self) -> Conservation | None:
        """Conservation at the tokens; None for a model without a residual stream."""
        return self.stream[0] if self.stream else None

    def to_dict(self) -> dict[str, Any]:
        """For the report: plain lists, numbers and strings."""
        return asdict(self)


class LayerRelevance:
    """Measures the relevance of layers.

    Args:
        tensors: Layer -> tensor at which its relevance is read, see :func:`.lrp_layers.relevance_tensors`.
    """

    def __init__(self, tensors: Mapping[str, str]) -> None:
        self._tensors = dict(tensors)

    def measure(
        self,
        model: onnx.ModelProto,
        feeds: Iterable[Feed],
        rule: str = ZPLUS,
        threads: int = 0,
        progress: Callable[[int], None] = lambda _: None,
    ) -> RelevanceResult:
        """One forward run and one backward sweep per feed; no feed is kept.

        The relevance starts at the float outputs, with equal parts where there are several. For ``[images, classes]``
        it is the largest logit of each image at its place and 0 elsewhere; an output of any other shape starts with
        ``max(output, 0)``, the mass of its predicted scores. Images whose relevance is 0 in all layers have no part in
        the scores.

        Args:
            model: Canonical float model; images lie along axis 0 of its tensors.
            feeds: Batches of images. Memory is that of one batch: few images per feed.
            rule: Rule of the linear layers, one of ``RULES``.
            threads: Threads of the forward run; 0 for all cores. A sweep uses one.
            progress: Called with the number of images so far.

        Raises:
            OptionError: No such rule.
            UnsupportedModelError: An operator without a rule, images that lie along another axis, or layers that no
                relevance reaches.
            CalibrationDataError: No feed.
            NonFiniteError: The output, or relevance that has grown beyond float32.
        """
        if rule not in RULES:
            raise OptionError(f"--lrp-rule {rule!r}: choose one of {', '.join(RULES)}")
        sweep = Sweep(model, self._tensors, rule, threads)
        images, masses, kept = 0, list[F64](), list[F64]()
        # The many small products of a sweep lose with threads of their own: on a machine that does something else as
        # well, waiting for each other made two of them ten times slower than one.
        with threadpool_limits(1):
            for feed in feeds:
                size = len(next(iter(feed.values())))
                mass, remaining = sweep.run(feed, size)
                masses.append(mass)
                kept.append(remaining)
                images += size
                progress(images)
        if not masses:
            raise CalibrationDataError("no images to measure relevance on: give at least one")
        return _result(rule, list(self._tensors), sweep.stream, np.concatenate(masses), np.concatenate(kept))


def _result(rule: str, layers: list[str], stream: tuple[str, ...], mass: F64, kept: F64) -> RelevanceResult:
    total = mass.sum(axis=1)
    used = total > 0
    if not used.any():
        raise UnsupportedModelError(
            f"no relevance reaches any of the {len(layers)} layers with the rule '{rule}': choose the other rule with "
            "--lrp-rule, or bit widths without relevance"
        )
    scores = (mass[used] / total[used, None]).mean(axis=0)
    return RelevanceResult(
        rule=rule,
        images=int(used.sum()),
        scores=dict(zip(layers, scores.tolist(), strict=True)),
        stream=tuple(
            Conservation(name, float(part.mean()), float(part.std()))
            for name, part in zip(stream, kept[used].T, strict=True)
        ),
    )
