"""Text to token ids and back, and what several text tasks share."""
