"""Samples of generated programs for the tests, made in processes of their own: in this one every call has its types
checked, which takes ten times as long."""

import json
import subprocess
import sys
from functools import cache


@cache
def sample(seed: int, count: int, level: str) -> tuple[str, ...]:
    """The first documents of a stream."""
    code = (
        "import itertools, json; from sparse_circuits.corpus.idioms import programs; "
        f"print(json.dumps(list(itertools.islice(programs({seed}, level={level!r}), {count}))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return tuple(json.loads(done.stdout))
