"""Live talk: a microphone, a speaker and perhaps a camera, held together around one conversation."""
