"""Clauses to sound: speech decoder and codec."""
