"""How fast an index answers: stage by stage, cold, under load, with what was found beside every latency."""

from rag_assets.evaluation.benchmark.measuring import benchmark

__all__ = ["benchmark"]
