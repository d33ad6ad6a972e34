"""Evaluation: float against quantized, in accuracy, agreement and time.

Models are plain callables from a feed to logits, so nothing here knows how a session is made.
"""
