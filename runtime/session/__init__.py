"""A conversation: its history, its responses, and the threads of a live session."""
