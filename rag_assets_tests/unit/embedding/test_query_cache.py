import numpy as np

from rag_assets.embedding.query_cache import QueryCache


class Model:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, text: str):
        self.asked.append(text)
        return np.full(3, len(text), np.float32)


def test_a_repeated_question_is_embedded_once_and_each_model_for_itself():
    cache, model = QueryCache(10), Model()
    first = cache.get("a", "how long", model.embed)
    assert cache.get("a", "how long", model.embed) is first
    assert model.asked == ["how long"]
    cache.get("b", "how long", model.embed)
    assert model.asked == ["how long", "how long"]
    assert (cache.hits, cache.misses) == (1, 2)


def test_what_was_asked_longest_ago_is_let_go_first():
    cache, model = QueryCache(2), Model()
    for question in ("one", "two", "one", "three", "one", "two"):
        cache.get("a", question, model.embed)
    assert model.asked == ["one", "two", "three", "two"]


def test_no_entries_means_no_cache_and_a_cached_vector_can_not_be_changed():
    cache, model = QueryCache(0), Model()
    vector = cache.get("a", "one", model.embed)
    cache.get("a", "one", model.embed)
    assert model.asked == ["one", "one"]
    assert not vector.flags.writeable
