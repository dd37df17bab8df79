"""A live session: a session with an audio input, an audio output, turn-taking, and a thread for each."""
