"""Sound: decoding and resampling it, the features that graphs take, and what graphs make of it."""
