"""The one resource: a ``Runtime``, made once per process and shared by its runs."""

import os
import threading

from rag_assets.runtime import Runtime
from rag_assets.settings import Settings

_LOCK = threading.Lock()
_RUNTIMES: dict[tuple[int, str], Runtime] = {}


def shared_runtime(settings: Settings) -> Runtime:
    """The process's runtime for these settings; made on first use, so that importing definitions touches nothing."""
    key = (os.getpid(), settings.model_dump_json())
    with _LOCK:
        if key not in _RUNTIMES:
            _RUNTIMES[key] = Runtime(settings)
        return _RUNTIMES[key]
