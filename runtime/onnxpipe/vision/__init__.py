"""Pictures: opening and decoding them, and making pixels that graphs take."""
