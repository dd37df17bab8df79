"""Text to tokens, turns to prompts, replies to clauses."""
