"""Vectors of questions that were asked before, so that a repeated question costs no pass through the model."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class QueryCache:
    """The vectors of the last questions, by model and text; any number of threads may use it."""

    def __init__(self, entries: int) -> None:
        """``entries``: how many are kept, at 4 bytes a dimension and some hundred for the text; 0: none."""
        self._entries = entries
        self._vectors: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        """Questions that were answered from here …"""
        self.misses = 0
        """… and that were not."""

    def get(self, embedder_fp: str, question: str, embed: Callable[[str], Vector]) -> Vector:
        """The question's vector under a model, which ``embed`` computes where it is not known; read-only."""
        key = (embedder_fp, question)
        with self._lock:
            known = self._vectors.get(key)
            if known is not None:
                self._vectors.move_to_end(key)
                self.hits += 1
                return known
            self.misses += 1
        # Outside the lock: two threads may embed one new question twice, but none waits for another's question.
        vector = embed(question)
        vector.flags.writeable = False
        with self._lock:
            self._vectors[key] = vector
            while len(self._vectors) > self._entries:
                self._vectors.popitem(last=False)
        return vector
