"""What fits a board, and how fast it will be, before anything is built."""
