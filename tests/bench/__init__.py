"""Benchmarks, to be run as scripts: nothing here is a test, and nothing asserts a time."""
