"""Build TensorRT engines, each in a process of its own."""
