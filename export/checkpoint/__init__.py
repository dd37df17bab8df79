"""Read a checkpoint in the layout of the release, without executing code."""
