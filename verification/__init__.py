"""Is a bundle right: recorded arrays, the reference implementation, task scores."""
