"""What a bundle is held to: a readable reference of the model, and comparisons with it."""
