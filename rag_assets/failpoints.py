"""Named places where a test makes this process fail, die or freeze, to prove that what is left behind is whole.

``RAG_FAILPOINT=name=action@n`` arms one: on its ``n``-th passing (default 1) the process is killed (``kill``), asked to end
(``term``), frozen (``stop``), or an exception is raised (``raise``). Without the variable a failpoint does nothing. The idea is
Dagster's ``debug_crash_flags``; the campaign in ``rag_assets_tests/faults`` enumerates every name in the package.
"""

import os
import signal
from collections import Counter

VARIABLE = "RAG_FAILPOINT"
_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
_passed: Counter[str] = Counter()


class FailpointReached(Exception):
    """The failure a test asked for."""


def failpoint(name: str) -> None:
    """A place of the code that the tests can make fail.

    Raises:
        FailpointReached: the environment asks for an exception here.
    """
    armed = os.environ.get(VARIABLE)
    if armed is None:
        return
    _passed[name] += 1
    wanted, _, rest = armed.partition("=")
    action, _, number = rest.partition("@")
    if wanted != name or _passed[name] != int(number or 1):
        return
    if action == "raise":
        raise FailpointReached(name)
    os.kill(os.getpid(), _SIGNALS[action])


def passings() -> dict[str, int]:
    """How often this process passed each failpoint; counted only while the variable is set."""
    return dict(_passed)
