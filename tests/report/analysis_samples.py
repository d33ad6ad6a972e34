"""An analysis with known content."""

from qcompiler.report.analysis import AnalysisResult
from qcompiler.report.search import LayerAnalysis

ANALYSIS = AnalysisResult(
    version="1.2.3",
    options={"effort": "default", "bop_budget": None},
    calibration={"kind": "images", "description": "128 images of photos", "count": 128, "sha256": "ab" * 32},
    layers=(
        LayerAnalysis("patch[proj]", "patch_embed", 0, 0.125, {}, None),
        LayerAnalysis("blocks.0.fc1", "fc1", 1, 0.5, {"w3": 0.25, "w4": 0.125, "a3": 0.0177}, None),
        LayerAnalysis("blocks.0.attn", "attention", 2, 0.375, {"qk3": 0.001, "v3": 0.002}, None),
        LayerAnalysis("blocks.0.fc2", "fc2", 3, None, {"a4": 1e-5, "w3": 2.0}, None),
    ),
    lrp_rule="zplus",
    conservation={"tokens mean": 0.97, "tokens spread": 0.02},
    warnings=("few images",),
    seconds={"calibrate": 61.0, "sensitivity": 4.5},
)
