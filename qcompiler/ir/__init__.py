"""The graph that passes edit: loading, saving, shapes, verification, and what is found in a canonical graph."""
