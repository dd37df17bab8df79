"""The dialects: one module for each backend."""
