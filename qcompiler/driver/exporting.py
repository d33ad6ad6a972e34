"""Export of reference models; torch and timm are imported only when it happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.models.exporters import Exported


def export_model(model: str, output: Path, weights: Path | None, exporter: str, batch: int | str) -> Exported:
    """Write ``timm:NAME`` as ONNX; the arguments are those of ``qcompiler.models.exporters.export``.

    Raises:
        QcompilerError: Unknown model, weights that do not fit, a missing package, or an output that cannot be written.
    """
    from qcompiler.models import exporters

    return exporters.export(model, output, weights, exporter, batch)
