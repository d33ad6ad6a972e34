"""The driver: runs the stages of a compilation in order; everything else is imported by it and knows nothing of it."""

from qcompiler.driver.analysis import analyze_model
from qcompiler.driver.compile import CompileResult, compile_model
from qcompiler.report.analysis import AnalysisResult
from qcompiler.report.html import write_analysis, write_report

__all__ = ["AnalysisResult", "CompileResult", "analyze_model", "compile_model", "write_analysis", "write_report"]
