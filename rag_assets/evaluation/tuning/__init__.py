"""Tuning: which retrieval settings suit a collection, measured with its own golden questions. Changes no setting."""

from rag_assets.evaluation.tuning.results import Tuning
from rag_assets.evaluation.tuning.sweep import tune

__all__ = ["Tuning", "tune"]
