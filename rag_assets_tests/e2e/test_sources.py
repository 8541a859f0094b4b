"""The real command with a bucket and a folder as collections of one installation."""

from dataclasses import replace

import pytest

from rag_assets_tests.e2e.commands import SETTINGS, CommandLine
from rag_assets_tests.source_servers import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow


def test_a_bucket_and_a_folder_are_kept_up_to_date_and_searched_alone_or_together(
    installation: CommandLine, s3: S3Server
) -> None:
    bucket = s3.bucket("handbook")
    bucket.put("hr/leave.md", b"# Leave\n\nParental leave is up to 14 months in total.\n")
    bucket.put("hr/old.md", b"# Pensions\n\nPensions are paid on the first of the month.\n")
    (installation.cwd / "wiki").mkdir()
    (installation.cwd / "wiki" / "otters.txt").write_text("Otters hold hands while they sleep.", encoding="utf-8")
    (installation.cwd / "rag_assets.toml").write_text(
        f'{SETTINGS}[collections.handbook]\nsource = "s3://handbook/hr"\n[collections.handbook.options]\n'
        f'endpoint_url = "{s3.url}"\n[collections.wiki]\nsource = "wiki"\n[collections.wiki.chunking]\nstrategy = "whole"\n',
        encoding="utf-8",
    )
    command = replace(installation, variables=CREDENTIALS)
    for name in ("handbook", "wiki"):
        assert command.json("sync", "--collection", name)["generation"]["promoted"]
    assert command.json("search", "parental leave", "--collection", "handbook")["hits"][0]["document"] == "leave.md"
    for which in (["--all"], ["--collection", "handbook", "--collection", "wiki"]):
        found = command.json("search", "who sleeps hand in hand?", *which)
        assert found["generations"] == {"handbook": "handbook#1", "wiki": "wiki#1"}
        assert (found["hits"][0]["collection"], found["hits"][0]["document"]) == ("wiki", "otters.txt")
    assert "handbook: leave.md" in command.succeed("search", "parental leave", "--all").out

    bucket.put("hr/leave.md", b"# Leave\n\nParental leave is up to 15 months in total.\n")
    bucket.put("hr/pensions.md", b"# Pensions\n\nPensions are paid on the first of the month.\n")
    bucket.delete("hr/old.md")
    planned = command.json("plan", "--collection", "handbook")["documents"]
    bucket.server.asked.clear()
    report = command.json("sync", "--collection", "handbook")
    changed = {kind: count for kind, count in report["documents"].items() if count}
    assert changed == {kind: count for kind, count in planned.items() if count} == {"changed": 1, "renamed": 1}
    assert report["embeddings"]["computed"] == 1
    assert sorted(bucket.read) == ["hr/leave.md", "hr/old.md", "hr/pensions.md"]  # of old.md: whether it is really gone
    assert "15 months" in command.json("search", "parental leave", "--all")["hits"][0]["text"]

    wrong = replace(command, variables={**CREDENTIALS, "RAG_SOURCE": "s3://me:topsecret@handbook"})
    refused = wrong.run("sync", "--collection", "third")
    assert refused.code == 2
    assert "topsecret" not in refused.err + refused.out
