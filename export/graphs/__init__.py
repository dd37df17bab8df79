"""The six graphs of a bundle, one module for each part of the model."""
