"""Who speaks: voice activity, and the table that decides whose turn it is."""
