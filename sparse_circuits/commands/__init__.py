"""One module a command: `Command`, the dataclass of its flags, and `run`. Heavy imports happen in `run` only."""
