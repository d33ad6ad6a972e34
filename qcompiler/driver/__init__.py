"""The driver: runs the stages of a compilation in order; everything else is imported by it and knows nothing of it."""

from qcompiler.driver.compile import CompileResult, compile_model

__all__ = ["CompileResult", "compile_model"]
