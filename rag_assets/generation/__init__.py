"""Answers with citations: the prompt, LiteLLM's router, and an extractive answerer that needs no model server."""

from rag_assets.litellm_client import load_litellm

__all__ = ["load_litellm"]
