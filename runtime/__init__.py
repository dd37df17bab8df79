"""The torch-free runtime: hear, see, think, speak."""
