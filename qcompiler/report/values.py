"""What a compilation did and what it cost, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from qcompiler.ir.passes import PassReport
from qcompiler.quant.bops import BitOperations
from qcompiler.report.coverage import Coverage
from qcompiler.report.latency import LatencyReport


@dataclass(frozen=True)
class LayerReport:
    """What one layer became.

    Attributes:
        name: Name of the layer, as in the graph.
        kind: ``patch_embed``, ``qkv``, ``proj``, ``fc1``, ``fc2``, ``head``, ``other`` or ``attention``.
        weight_bits: Width of the weights; None for attention.
        activation_bits: Width of the activations; of queries and keys for attention.
        scheme: How the input is quantized: ``blocks``, ``channels``, ``rows``, ``segments`` or ``folded``; for
            attention ``blocks`` or ``groups`` and the softmax levels, ``uniform`` or ``codebook``.
        groups: Number of groups, one entry per group quantizer (attention in groups: query, key, value, probability).
        tokens: Rows of the product per instance.
        inner: Length of the reduction.
        outputs: Columns of the product.
        products: Bit operations of the products per image.
        bookkeeping: Bit operations of ranges, assignment and rescaling per image.
        fixed: Whether ``--first-last-bits`` decides its widths.
        value_bits: Width of values and probabilities; None for linear layers.
        block: Channels of one block of the input; 0 where it is not cut into blocks.
        rotate: Channels that are rotated together in front of blocks; 1 for none.
        weight_block: Input channels that share a multiple and a zero point of the weight; 0 for none.
        effective_weight_bits: Bits per weight with the metadata of its blocks; None for attention.
        effective_activation_bits: Likewise for the activations (queries and keys).
        relevance: Share of the model's relevance (of both products for attention); None if it was not measured.
        sensitivity: Predicted KL divergence of this layer alone under its plan, nats; None if it was not measured.
    """

    name: str
    kind: str
    weight_bits: int | None
    activation_bits: int
    scheme: str
    groups: tuple[int, ...]
    tokens: int
    inner: int
    outputs: int
    products: int
    bookkeeping: int
    fixed: bool
    value_bits: int | None = None
    block: int = 0
    rotate: int = 1
    weight_block: int = 0
    effective_weight_bits: float | None = None
    effective_activation_bits: float | None = None
    relevance: float | None = None
    sensitivity: float | None = None


@dataclass(frozen=True)
class CompileReport:
    """The report of one compilation.

    Attributes:
        version: Version of qcompile.
        method: Quantization method.
        widths: Widths of the free layers: ``w4a4`` where all are alike, else ``mixed`` with their mean.
        options: Options in force.
        calibration: Provenance of the calibration data (kind, description, images, hash, preprocessing).
        layers: One entry per quantized layer, in graph order.
        bops: Bit operations.
        passes: What each pass did.
        bytes_before: Size of the float model.
        bytes_after: Size of the quantized model.
        agreement: Share of calibration images with the float model's top-1, in percent, with its standard error and the
            mean KL divergence (None where no output holds class scores), relative error and PSNR of the worst output,
            and the same of every output; None when the compilation stopped early.
        warnings: What the user should know.
        loss: Mean KL divergence of the last plan that was tried out, nats; None where none was.
        seconds: Time per stage.
        latency: Time of the model on this machine; None without a latency budget.
        coverage: What share of the float model's products is quantized; None when the compilation stopped early.
    """

    version: str
    method: str
    widths: str
    options: Mapping[str, object]
    calibration: Mapping[str, object]
    layers: tuple[LayerReport, ...]
    bops: BitOperations
    passes: tuple[PassReport, ...]
    bytes_before: int
    bytes_after: int
    agreement: Mapping[str, object] | None
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    loss: float | None = None
    latency: LatencyReport | None = None
    coverage: Coverage | None = None

    @property
    def size_ratio(self) -> float:
        """Size of the quantized model over that of the float model."""
        return self.bytes_after / self.bytes_before

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values, for ``--json`` and the model's metadata."""
        return {
            "version": self.version,
            "method": self.method,
            "widths": self.widths,
            "options": dict(self.options),
            "calibration": dict(self.calibration),
            "layers": [asdict(layer) for layer in self.layers],
            "bops": self.bops.to_dict(),
            "passes": [asdict(item) for item in self.passes],
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "size_ratio": self.size_ratio,
            "agreement": None if self.agreement is None else dict(self.agreement),
            "warnings": list(self.warnings),
            "seconds": dict(self.seconds),
            "loss": self.loss,
            "latency": None if self.latency is None else asdict(self.latency),
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
        }
