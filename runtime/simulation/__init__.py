"""A live session without hardware: a simulated room, bench runs, lockstep."""
