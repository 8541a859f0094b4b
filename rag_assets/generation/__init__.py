"""Answers with citations: the prompt, LiteLLM's router, and an extractive answerer that needs no model server."""

import logging
import os
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
