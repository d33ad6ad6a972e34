"""The quantizers themselves: grouped activations, weights, softmax levels, and what they cost in bit operations."""
