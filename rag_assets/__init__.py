"""Keeps a vector index of a team's documents true, fast and proven, with Dagster."""

__version__ = "0.1.0"
