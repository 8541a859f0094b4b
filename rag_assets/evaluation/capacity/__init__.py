"""When a team's growth reaches the next limit of its machine, from what this installation measured, and what to do then."""

from rag_assets.evaluation.capacity.measuring import measure
from rag_assets.evaluation.capacity.projection import Capacity, Installation, project

__all__ = ["Capacity", "Installation", "measure", "project"]
