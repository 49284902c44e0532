"""The runtime's own commands, one file each: `add_arguments` declares, `run` does and returns the exit code."""
