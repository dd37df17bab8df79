"""Graphs as files: read and changed without the onnx package."""
