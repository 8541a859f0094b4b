"""What a model that can't read the question may say about the answer: little."""

from rag_assets.models import CoverageMeter, Embedder
from rag_assets.retrieval.rerank import LATE_INTERACTION
from rag_assets.settings import RetrievalSettings


def as_read(settings: RetrievalSettings, embedder: Embedder, question: str) -> RetrievalSettings:
    """The settings with the weights of everything the embedder says times the share of the question that it can read.

    An English model sees a Chinese question as a row of unknown signs. At full weight it then loses what the words alone have
    found; in its own language the share is 1 but for odd names. Reciprocal rank fusion has no weights, and is left as it is.
    """
    if settings.mode != "hybrid" or not isinstance(embedder, CoverageMeter):
        return settings
    share = embedder.coverage(question)
    if share == 1:
        return settings
    weights = {"dense_weight": settings.dense_weight * share}
    if settings.rerank == LATE_INTERACTION:
        weights["rerank_weight"] = settings.rerank_weight * share
    return settings.model_copy(update=weights)
