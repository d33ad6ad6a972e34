"""The quantizers themselves: uniform and grouped activations, weights, softmax levels, and what they cost in bit operations."""
