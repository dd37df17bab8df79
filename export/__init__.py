"""From a checkpoint in the release's layout to a bundle."""
