"""The three modes over one index: what each side finds, what both find together, and what a hit says of it."""

from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.retrieval.filters import parse_filters
from rag_assets.retrieval.fusion import normalised, ranked
from rag_assets.retrieval.search import SearchResult, search
from rag_assets.settings import RetrievalSettings
from rag_assets_tests.driving import WarmRuntime, corpus, query, run, write
from rag_assets_tests.unit.retrieval import rerank_server


@pytest.fixture
def filled(index: WarmRuntime, source: Path) -> WarmRuntime:
    corpus(source)
    write(source, "rare.md", "# Rare\n\nThe zyxwomat hums. Nothing else does.\n")
    run(index)
    return index


def mode(name: str, **more: object) -> RetrievalSettings:
    return RetrievalSettings(mode=name, **more)  # type: ignore[arg-type]


def test_a_rare_word_is_found_by_the_lexical_side_which_says_so(filled: WarmRuntime) -> None:
    (hit,) = search(filled, "zyxwomat", collection="default", k=5, retrieval=mode("lexical")).hits
    assert hit.document == "rare.md"
    assert hit.scores["bm25"] is not None
    assert (hit.scores["dense"], hit.scores["fused"], hit.scores["rerank"]) == (None, None, None)
    assert (hit.ranks["bm25"], hit.ranks["dense"]) == (1, None)


def test_the_time_of_each_part_is_told_and_lies_within_the_whole(filled: WarmRuntime) -> None:
    both = {"dense", "lexical", "fuse"}
    for settings, parts in (
        (mode("dense"), {"dense"}),
        (mode("lexical"), {"lexical"}),
        (mode("hybrid"), both),
        (mode("hybrid", fusion="rrf"), both),
    ):
        spent = search(filled, "document 3 topic 21", collection="default", retrieval=settings).milliseconds
        assert spent.keys() == {"embedding", "retrieval", "search", *parts}
        assert 0 < sum(spent[part] for part in parts) <= spent["retrieval"] <= spent["search"]


def test_the_dense_side_knows_no_words(filled: WarmRuntime) -> None:
    hits = search(filled, "document 3 topic 21", collection="default", k=5, retrieval=mode("dense")).hits
    assert len(hits) == 5
    assert all(hit.scores["bm25"] is None and hit.scores["dense"] is not None for hit in hits)
    assert [hit.ranks["dense"] for hit in hits] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
def test_hybrid_hits_carry_every_part_and_its_rank(filled: WarmRuntime, fusion: str) -> None:
    found = search(filled, "zyxwomat topic 21", collection="default", k=5, retrieval=mode("hybrid", fusion=fusion))
    fused = [hit.scores["fused"] for hit in found.hits]
    assert fused == sorted(fused, key=lambda score: -(score or 0))
    assert "rare.md" in [hit.document for hit in found.hits]
    assert all(hit.scores["dense"] is not None for hit in found.hits)
    assert [hit.ranks["fused"] for hit in found.hits] == [1, 2, 3, 4, 5]
    assert not found.reranked


def test_what_one_side_finds_is_fused_with_its_true_score_of_the_other(filled: WarmRuntime) -> None:
    question = "paragraph of document 5 topic 36"
    dense, bm25 = (
        {hit.chunk_id: hit.scores[part] or 0.0 for hit in search(filled, question, k=100, retrieval=mode(name)).hits}
        for name, part in (("dense", "dense"), ("lexical", "bm25"))
    )
    found = search(filled, question, k=6, retrieval=mode("hybrid", candidates=3)).hits
    union = {*list(dense)[:6], *list(bm25)[:6]}
    assert len(union) > 6
    near = normalised({item: dense[item] for item in union})
    words = normalised({item: bm25.get(item, 0.0) for item in union})
    wanted = {item: 0.5 * near[item] + 0.5 * words[item] for item in union}
    assert {hit.chunk_id: hit.scores["fused"] for hit in found} == pytest.approx(
        {item: wanted[item] for item in ranked(wanted)[:6]}, abs=1e-5
    )
    assert all(hit.scores["bm25"] == pytest.approx(bm25.get(hit.chunk_id, 0.0), abs=1e-5) for hit in found)


def test_a_row_made_by_hand_is_found_and_stops_no_search(filled: WarmRuntime) -> None:
    query(
        filled,
        "INSERT INTO index_entry SELECT generation_id, 'stray', doc_id, text_hash, text, payload, embedding, embedder_fp"
        " FROM index_entry WHERE payload ->> 'document' = 'rare.md'",
    )
    hits = search(filled, "The zyxwomat hums", k=5, retrieval=mode("hybrid")).hits
    assert "stray" in [hit.chunk_id for hit in hits]


def test_hybrid_with_all_the_weight_on_one_side_is_that_side(filled: WarmRuntime) -> None:
    question = "paragraph of document 5 topic 36"
    for weight, side in ((1.0, "dense"), (0.0, "lexical")):
        alone = search(filled, question, collection="default", k=5, retrieval=mode(side)).hits
        both = search(filled, question, collection="default", k=5, retrieval=mode("hybrid", dense_weight=weight)).hits
        assert both[0].chunk_id == alone[0].chunk_id


def test_a_filter_holds_for_both_sides(filled: WarmRuntime) -> None:
    filters = parse_filters(["document=rare.md"])
    for name in ("dense", "lexical", "hybrid"):
        hits = search(filled, "zyxwomat topic", collection="default", k=5, filters=filters, retrieval=mode(name)).hits
        assert {hit.document for hit in hits} == {"rare.md"}


def test_a_filter_s_result_says_which_way_was_taken(filled: WarmRuntime) -> None:
    found = search(filled, "topic", collection="default", k=5, filters=parse_filters(["document!=rare.md"]))
    assert found.plan is not None
    assert found.plan.way == "exact"
    assert search(filled, "topic", collection="default", k=5).plan is None


def test_every_field_of_a_document_can_be_filtered_by_and_no_other(filled: WarmRuntime, source: Path) -> None:
    write(source, "facts.md", "---\nteam: blue\nyear: 2021\n---\nThe topic of facts.\n")
    run(filled)
    filters = parse_filters(["team=blue", "year>2020", "page!=4", "document^=fac"])
    hits = search(filled, "topic", collection="default", filters=filters).hits
    assert {hit.document for hit in hits} == {"facts.md"}
    with pytest.raises(ConfigurationError, match=r"no field 'tema'.* Did you mean 'team'\?.*document.*year"):
        search(filled, "topic", collection="default", filters=parse_filters(["team=blue", "tema=blue"]))


def test_settings_restrict_the_fields(filled: WarmRuntime) -> None:
    only = mode("hybrid", filter_fields=("document",))
    filters = parse_filters(["document=rare.md"])
    assert search(filled, "topic", collection="default", filters=filters, retrieval=only).hits
    with pytest.raises(ConfigurationError, match=r"no field 'title'.*retrieval.filter_fields allows: document\."):
        search(filled, "topic", collection="default", filters=parse_filters(["title=Rare"]), retrieval=only)


def test_an_endpoint_reorders_the_hits_and_one_that_drips_leaves_them_and_says_so(
    filled: WarmRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(rerank: str, reply: rerank_server.Reply, seconds: float) -> SearchResult:
        with rerank_server.serving(reply) as server:
            monkeypatch.setenv("INFINITY_API_BASE", server.url)
            how = mode("hybrid", rerank=rerank, rerank_weight=1.0, rerank_seconds=seconds)
            found = search(filled, "zyxwomat topic 21", collection="default", k=5, retrieval=how)
            assert bool(server.requests) == (rerank != "none")
            return found

    plain = ask("none", rerank_server.cohere, 60)
    done = ask("litellm:infinity/m", rerank_server.cohere, 60)
    assert done.reranked
    scores = [hit.scores["rerank"] or 0.0 for hit in done.hits]
    assert scores == sorted(scores, reverse=True)
    late = ask("litellm:infinity/m", rerank_server.dripping, 0.3)
    assert not late.reranked
    assert [hit.chunk_id for hit in late.hits] == [hit.chunk_id for hit in plain.hits]
    assert all(hit.scores["rerank"] is None for hit in late.hits)


def test_a_repeated_question_is_not_embedded_again_but_a_measured_one_is(filled: WarmRuntime) -> None:
    asked = "document 3 topic 21"
    first = search(filled, asked, collection="default")
    again = search(filled, asked, collection="default")
    assert [hit.chunk_id for hit in again.hits] == [hit.chunk_id for hit in first.hits]
    assert (filled.query_cache.hits, filled.query_cache.misses) == (1, 1)
    search(filled, asked, generation=first.generation)
    assert (filled.query_cache.hits, filled.query_cache.misses) == (1, 1)
