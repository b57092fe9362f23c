"""The one exception a user's mistake raises.

The command line prints its text as a single line and exits with status 2; from Python it is a `ValueError`.
"""


class InputError(ValueError):
    """Bad input: the message says in one line what was wrong, where, what was expected and how to mend it."""


class Diverged(RuntimeError):
    """An optimisation went to NaN, infinity or far off; the message names the step and the cause as far as known."""


class FailedElsewhere(Exception):
    """Another of the processes that work together has failed, and told why."""
