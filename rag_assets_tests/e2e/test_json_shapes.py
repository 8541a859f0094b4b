"""What scripts rely on: every command prints one JSON object of the documented shape, and nothing else, on standard output."""

import json
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rag_assets.database.embedded import embedded
from rag_assets_tests.e2e.commands import SETTINGS, CommandLine

QUESTIONS = """
{"id": "leave", "question": "How long is parental leave?", "answer": "fourteen months", "relevant": [{"document": "hr/leave.md", "quote": "up to **fourteen** months"}]}
{"id": "soup", "question": "On which day is soup served?", "answer": "Tuesdays", "relevant": [{"document": "cafeteria.txt", "quote": "serves soup on Tuesdays"}]}
{"id": "rail", "question": "Where are rail tickets booked?", "answer": "the travel portal", "relevant": [{"document": "travel.html", "quote": "booked in the travel portal"}]}
"""
DOCUMENTS = {
    "hr/leave.md": "# Leave\n\n## Parents\n\nEvery parent may take up to **fourteen** months of parental leave in total.\n",
    "cafeteria.txt": "The cafeteria opens at eight and serves soup on Tuesdays.\n",
    "travel.html": "<html><body><h1>Travel</h1><p>Rail tickets are booked in the travel portal.</p></body></html>",
    "broken.pdf": "no PDF at all",
}
MARK = 4711
"""What no sync would count here."""
ATTEMPTS = 3
"""A server that is awake begins transactions of its own now and then, after which nothing is known to be unchanged."""
_SETTLED = 2.1
"""Seconds that files must have been left alone before a sync trusts their times."""
DOCUMENT_COUNTS = {"added", "changed", "renamed", "removed", "metadata_only", "unchanged", "quarantined"}


@pytest.fixture(scope="module")
def indexed(installation: CommandLine) -> "Indexed":
    """An installation that has planned and synced, with the objects that both printed."""
    folder = installation.cwd / "documents"
    for name, text in DOCUMENTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (installation.cwd / "questions.jsonl").write_text(QUESTIONS, encoding="utf-8")
    _configure(installation, max_tokens=256)
    planned = installation.json("plan")
    return installation, planned, installation.json("sync")


def _configure(installation: CommandLine, max_tokens: int) -> None:
    (installation.cwd / "rag_assets.toml").write_text(
        f"{SETTINGS}[chunking]\nmax_tokens = {max_tokens}\n"
        '[collections.default]\nsource = "documents"\nquestions = "questions.jsonl"\n',
        encoding="utf-8",
    )


Indexed = tuple[CommandLine, dict[str, Any], dict[str, Any]]


def test_sync_reports_what_it_did(indexed: Indexed) -> None:
    _, _, synced = indexed
    assert synced["documents"].keys() >= DOCUMENT_COUNTS
    assert (synced["documents"]["added"], synced["documents"]["quarantined"]) == (3, 1)
    assert synced["chunks"] == {"total": 3, "added": 3, "removed": 0}
    assert synced["embeddings"] == {"computed": 3, "reused": 0}
    generation = synced["generation"]
    assert (generation["state"], generation["promoted"], type(generation["id"])) == ("live", True, int)
    assert synced["seconds"].keys() >= {"total", "parse", "chunk", "embed", "load", "index"}
    assert all(isinstance(value, float) for value in synced["seconds"].values())


def test_plan_announces_what_the_sync_then_counts(indexed: Indexed) -> None:
    _, planned, synced = indexed
    for group in ("documents", "chunks", "embeddings"):
        assert planned[group] == synced[group]
    assert planned["tokens"] > 20
    assert any("first generation" in reason for reason in planned["reasons"])
    assert (type(planned["estimated_seconds"]), type(planned["estimated_cost_usd"])) == (float, float)


def test_search_prints_hits_with_their_parts_of_the_score(indexed: Indexed) -> None:
    found = indexed[0].json("search", "how long may parents stay home", "-k", "2")
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    best = found["hits"][0]
    assert best["document"] == "hr/leave.md"
    assert "fourteen months" in best["text"]
    assert best["scores"].keys() == {"dense", "bm25", "fused", "rerank"}
    assert 0.3 < best["scores"]["dense"] <= 1
    assert best["metadata"]["headings"][0] == "Leave"
    assert best["duplicates"] == []
    diverse = indexed[0].json("search", "how long may parents stay home", "-k", "2", "--diverse")
    assert [hit["document"] for hit in diverse["hits"]] == [hit["document"] for hit in found["hits"]]
    assert isinstance(best["chunk_id"], str)
    assert found["generation"] == "default#1"
    assert all(isinstance(value, float) for value in found["milliseconds"].values())


def test_ask_prints_an_answer_whose_citations_quote_the_documents(indexed: Indexed) -> None:
    asked = indexed[0].json("ask", "On which day is soup served?")
    assert "Tuesdays" in asked["answer"]
    assert asked["supported"] is True
    assert asked["citations"][0]["document"] == "cafeteria.txt"
    assert asked["citations"][0]["quote"] in DOCUMENTS["cafeteria.txt"]
    assert asked["model"] == "offline-extractive"
    assert asked["generation"] == "default#1"
    assert asked["milliseconds"].keys() >= {"embedding", "retrieval", "context", "generation", "total"}
    context = asked["context"]
    assert [passage["number"] for passage in context["passages"]] == [1, 2, 3]
    assert asked["citations"][0]["chunk_id"] in context["passages"][0]["chunk_ids"]
    assert context["left_out"] == []
    assert 0 < context["tokens"]["used"] <= context["tokens"]["allowed"] == 4000


def test_status_names_what_is_not_indexed_and_why(indexed: Indexed) -> None:
    found = indexed[0].json("status")
    (collection,) = found["collections"]
    assert (collection["name"], collection["documents"], collection["chunks"]) == ("default", 3, 3)
    assert collection["live_generation"] == "default#1"
    assert [row["state"] for row in collection["generations"]] == ["live"]
    (refused,) = collection["quarantined"]
    assert refused["document"] == "broken.pdf"
    assert "damaged" in refused["reason"]
    assert found["database"]["kind"] == "embedded"
    assert "MiniLM" in found["embedder"]["model"]


def test_evaluate_compares_ways_to_cut_the_documents(indexed: Indexed) -> None:
    """As an object; and as a table, whose last lines say what its marks mean."""
    asked = ("evaluate", "--compare", "chunking=sliding:32:overlap_tokens=4,sentence-window")
    found = indexed[0].json(*asked)
    assert (found["documents"], found["questions"], found["mode"], found["context_characters"]) == (
        3,
        3,
        "hybrid",
        4000,
    )
    assert [variant["name"] for variant in found["variants"]] == [
        "recursive:256", "sliding:32:overlap_tokens=4", "sentence-window"
    ]  # fmt: skip
    first, second, _ = found["variants"]
    assert (first["configured"], first["chunks"], first["texts"], first["differences"]) == (True, 3, 3, {})
    assert first["scores"].keys() == {"ndcg@10", "recall@10", "evidence@4000"}
    assert second["settings"]["max_tokens"] == 32
    assert second["differences"]["ndcg@10"].keys() == {"value", "low", "high", "n_valid", "n_total"}
    assert {type(second[key]) for key in ("mean_tokens", "cut_seconds", "embed_seconds")} == {float}
    assert sum(variant["cheapest"] for variant in found["variants"]) == 1
    printed = indexed[0].succeed("evaluate", "--compare", "chunking=whole").out
    assert "recursive:256 (configured)" in printed
    assert "whole" in printed
    assert "* within noise of the best" in printed
    refused = indexed[0].run("evaluate", "--compare", "chunking=sliding:512", "--json")
    assert (refused.code, refused.json["exit_code"]) == (2, 2)
    assert "512" in refused.json["error"]


def test_evaluate_prints_a_verdict_scores_with_intervals_and_the_report(indexed: Indexed) -> None:
    found = indexed[0].json("evaluate")
    assert found["verdict"] == "pass"
    for metric in ("ndcg@10", "recall@10", "mrr@10"):
        assert found["retrieval"][metric].keys() >= {"value", "low", "high", "n_valid", "n_total"}
        assert found["retrieval"][metric]["value"] == 1.0
    assert found["retrieval"]["ndcg@10"]["n_valid"] == 3
    # The quote holds Markdown's asterisks, the parsed document does not: labels survive the parser.
    assert found["invalid_labels"] == []
    assert found["answers"]["citation_support"]["value"] == 1.0
    assert found["latency"].keys() >= {"search"}
    assert Path(found["report"]).read_text(encoding="utf-8").startswith("<!")
    assert found["fingerprint"]


def test_questions_check_prints_figures_and_findings_with_their_cures(indexed: Indexed) -> None:
    found = indexed[0].json("questions", "check")
    assert (found["questions"], found["sound"], found["errors"]) == (3, True, [])
    assert found["labels"]["questions"] == {"measurable": 3, "unmeasured": 0, "unanswerable": 0}
    assert found["coverage"]["documents"] == {"total": 3, "asked": 3, "share": 1.0}
    assert found.keys() >= {"collection", "generation", "file", "duplicates", "leaks", "size"}
    warned = {warning["kind"]: warning for warning in found["warnings"]}
    assert warned.keys() == {"none-unanswerable", "too-few"}
    assert "gates.ndcg_drop" in warned["too-few"]["text"]
    assert "questions draft" in warned["too-few"]["cure"]


def test_questions_accept_moves_the_drafts_that_hold(indexed: Indexed) -> None:
    command = indexed[0]
    label = {"document": "cafeteria.txt", "quote": "opens at eight"}
    held = {"id": "d1", "question": "When can one have breakfast?", "relevant": [label], "draft": True, "context": {}}
    lost = {**held, "id": "d2", "question": "Who cooks?", "relevant": [{"document": "gone.md"}]}
    drafts, accepted = command.cwd / "drafts.jsonl", command.cwd / "accepted.jsonl"
    drafts.write_text(f"{json.dumps(held)}\n{json.dumps(lost)}\n", encoding="utf-8")
    done = command.run("questions", "accept", drafts, "--all", "--questions", accepted, "--json")
    assert (done.code, done.json["accepted"], done.json["refused"].keys()) == (3, ["d1"], {"d2"})
    assert [json.loads(line) for line in drafts.read_text().splitlines()] == [lost]
    assert json.loads(accepted.read_text()) == {key: held[key] for key in ("id", "question", "relevant")}
    unsaid = command.run("questions", "accept", drafts, "--questions", accepted)
    assert (unsaid.code, "their ids, or --all" in unsaid.err) == (2, True)


def test_tune_prints_what_it_measured_and_writes_a_report(indexed: Indexed) -> None:
    command = indexed[0]
    found = command.json("tune")
    assert (found["questions"]["used"], found["changes"], found["toml"]) == (3, False, "")
    assert "too few" in found["reasons"][0]
    assert {point["retrieval"]["mode"] for point in found["points"]} == {"dense", "lexical", "hybrid"}
    assert {point["retrieval"]["rerank"] for point in found["points"]} == {"none", "late-interaction"}
    assert all(point["milliseconds"]["p95"] > 0 for point in found["points"])
    assert Path(found["report"]).read_text(encoding="utf-8").startswith("# Tuning of default")
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")


def test_bench_measures_the_live_index_as_the_options_say(indexed: Indexed) -> None:
    options = ("--concurrency", "2", "--rate", "20", "--seconds", "0.2", "--no-generate")
    found = indexed[0].json("bench", *options)
    assert (found["generation"], found["queries"], found["query_source"]) == ("default#1", 3, "golden questions")
    stages = {"embedding", "dense", "lexical", "fuse", "retrieval", "search"}
    assert found["stages"].keys() == found["cold"]["stages"].keys() == stages
    assert found["stages"]["search"].keys() == {"n", "p50", "p95", "p99", "max"}
    (closed,), (opened,) = found["closed"], found["open"]
    assert (closed["concurrency"], closed["errors"], opened["rate"], opened["errors"]) == (2, 0, 20, 0)
    assert closed["throughput"] > 0
    assert closed["quality"]["hit_rate_at_10"] == closed["quality"]["recall_at_10"] == 1
    assert opened["latency"].keys() == found["stages"]["search"].keys()
    assert found["answers"] is None


def test_doctor_lists_what_it_looked_at(indexed: Indexed) -> None:
    found = indexed[0].json("doctor")
    assert found["ok"] is True
    assert {row["name"] for row in found["findings"]} >= {"python", "home", "model", "database", "source of default"}
    assert all(row.keys() == {"name", "state", "text"} for row in found["findings"])


def test_text_output_is_for_people(indexed: Indexed) -> None:
    command = indexed[0]
    assert command.succeed("sync").out.splitlines()[0] == "default: nothing changed; 3 documents, 0 texts embedded."
    assert command.succeed("plan").out == "default: nothing to do; 3 documents are up to date.\n"
    status = command.succeed("status").out
    assert "default: 3 documents, 3 chunks, live: default#1" in status
    assert any("broken.pdf" in line and "damaged" in line for line in status.splitlines())
    assert "1. cafeteria.txt" in command.succeed("search", "soup day").out
    answer = command.succeed("ask", "Where are rail tickets booked?").out
    assert "travel portal" in answer
    assert "[1] travel.html" in answer


def test_a_sync_that_need_not_look_prints_the_same_and_leaves_the_database_asleep(indexed: Indexed) -> None:
    command = indexed[0]
    stamp, looked = _stamped(command)
    text = command.succeed("sync").out
    assert text.startswith("default: nothing changed; 3 documents, 0 texts embedded.\n  1 file is not indexed;")

    def is_told_by_the_stamp(attempts: int = ATTEMPTS) -> bool:
        noted = json.loads(stamp.read_text(encoding="utf-8"))
        noted["printed"]["chunks"]["total"] = MARK
        stamp.write_text(json.dumps(noted), encoding="utf-8")
        told = command.json("sync")
        assert told.keys() == looked.keys()
        assert told["documents"] == looked["documents"]
        return bool(told["chunks"]["total"] == MARK) or (attempts > 1 and is_told_by_the_stamp(attempts - 1))

    assert is_told_by_the_stamp()
    assert command.succeed("sync").out == command.succeed("sync").out == text
    assert command.json("sync", "--allow-mass-delete")["chunks"]["total"] == 3
    assert is_told_by_the_stamp()
    asleep = _server_log(command)
    assert is_told_by_the_stamp()
    assert _server_log(command) == asleep
    server = embedded(command.home)
    url = server.acquire()
    try:
        assert is_told_by_the_stamp()
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE rag.document SET collection = collection")
        assert not is_told_by_the_stamp(attempts=1)
        assert is_told_by_the_stamp()
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE rag.document SET collection = collection")
    finally:
        server.release()
    assert not is_told_by_the_stamp(attempts=1)
    assert is_told_by_the_stamp()
    assert command.json("sync", "--verify")["chunks"]["total"] == 3


def _stamped(command: CommandLine) -> tuple[Path, dict[str, Any]]:
    """The stamp of a sync that found nothing to do, and what it printed."""
    for _ in range(ATTEMPTS):
        time.sleep(_SETTLED)
        looked = command.json("sync")
        for file in (command.home / "stamps").glob("*.json"):
            if isinstance(json.loads(file.read_text(encoding="utf-8"))["printed"], dict):
                return file, looked
    raise AssertionError("no sync left a stamp")


def _server_log(command: CommandLine) -> int:
    return (command.home / "postgres" / "server.log").stat().st_size


def test_rollback_makes_the_generation_before_answer_again(indexed: Indexed) -> None:
    command = indexed[0]
    refused = command.run("rollback", "--json")
    assert (refused.code, refused.json["exit_code"]) == (3, 3)
    _configure(command, max_tokens=20)
    planned = command.json("plan")
    assert any("chunking settings" in reason for reason in planned["reasons"])
    assert command.json("sync")["generation"]["name"] == "default#2"
    compared = command.json("compare", "1", "default#2")
    assert (compared["before"]["name"], compared["after"]["name"], compared["compared"]) == (
        "default#1",
        "default#2",
        3,
    )
    assert [reason["text"] for reason in compared["settings"]] == ["chunking: max_tokens 256 → 20"]
    assert compared["differences"]["ndcg@10"]["n_valid"] == 3
    unknown = command.run("evaluate", "--generation", "9", "--json")
    assert (unknown.code, unknown.json["exit_code"]) == (2, 2)
    assert "default#1 (retired)" in unknown.json["error"]
    assert command.json("rollback") == {"live": "default#1", "previous": "default#2"}
    assert command.json("status")["collections"][0]["live_generation"] == "default#1"


def test_capacity_projects_this_machine(indexed: Indexed) -> None:
    command = indexed[0]
    found = command.json("capacity")
    measured = found["installation"]
    assert measured["chunks"] > 0
    assert 0 < measured["disk_used"] <= measured["disk_total"]
    assert {"vectors", "disk"} <= {resource["name"] for resource in found["resources"]}
    assert [item["growth"]["name"] for item in found["projections"]] == ["organic", "rapid", "enterprise"]
    text = command.run("capacity")
    assert "When limits are reached" in text.out
