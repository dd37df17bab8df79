"""Checkpoints with random weights in the layout of the release."""
