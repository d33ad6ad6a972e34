"""Quantized layers of a model file, read from its nodes and constants alone."""
