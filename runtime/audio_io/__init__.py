"""Sound in and out: devices, files, rates, and the echo canceller."""
