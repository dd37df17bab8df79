"""An independent numpy VITA-1.5, written from the specification alone, that checks the project's own graphs."""
