"""Weights on their way into a graph: formats, precision, streaming."""
