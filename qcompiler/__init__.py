"""Quantization compiler for vision transformers, from ONNX to ONNX."""

__version__ = "0.1.0"
