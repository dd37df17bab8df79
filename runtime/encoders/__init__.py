"""Audio, pictures and video to embeddings of the prompt."""
