"""Read files that somebody else wrote: JSON, text, arrays. Whatever they hold, the caller's own error comes out."""
