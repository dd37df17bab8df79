"""What a session emits, as plain values."""
