"""Read a checkpoint's tokenizer, and hold it against the weights and the other files that name its ids."""
