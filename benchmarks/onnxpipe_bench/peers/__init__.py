"""Other libraries, each in an environment of its own: scripts that a benchmark starts and talks to by lines."""
