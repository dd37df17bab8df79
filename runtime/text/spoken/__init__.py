"""Written text as it is read aloud, in English, Chinese, and both mixed."""
