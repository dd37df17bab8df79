"""The language model over its KV cache, token by token."""
