"""Quantization compiler for vision transformers, from ONNX to ONNX.

Example:
    >>> from qcompiler import CompileOptions, compile_model
    >>> result = compile_model("digits_vit.onnx", CompileOptions(bop_budget=0.25))
    >>> result.save("digits_vit.igq.onnx")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CompileOptions", "CompileResult", "__version__", "compile_model", "export_and_compile"]

if TYPE_CHECKING:
    from qcompiler.driver import CompileResult, compile_model
    from qcompiler.driver.exporting import export_and_compile
    from qcompiler.options import CompileOptions


def __getattr__(name: str) -> Any:
    # On first use: `import qcompiler.errors` must not load ONNX Runtime and every stage.
    if name == "CompileOptions":
        from qcompiler.options import CompileOptions

        return CompileOptions
    if name in ("CompileResult", "compile_model"):
        from qcompiler import driver

        return getattr(driver, name)
    if name == "export_and_compile":
        from qcompiler.driver.exporting import export_and_compile

        return export_and_compile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
