"""LiteLLM, as every part imports it, and what its errors say: silent, off the network, and only when needed."""

import logging
import os
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any


def load_litellm() -> Any:
    """Import LiteLLM (4–6 s, hence never at module level) so that it stays silent and off the network."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Its development mode reads a .env file from wherever it finds one; keys come from the environment only.
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    # Failures reach the caller as exceptions; logged as well, they would print prompts and tracebacks.
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds to wait by Retry-After, given as such or as a date (RFC 9110, section 10.2.3)."""
    value = (headers or {}).get("retry-after")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except ValueError:
            return None
    return max(0.0, seconds)
