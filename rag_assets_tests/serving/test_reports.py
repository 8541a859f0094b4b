"""The reports over HTTP: found, shown, and nothing but reports."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation import publishing
from rag_assets.serving.app import report_url
from rag_assets.serving.server import Server
from rag_assets_tests.driving import OpenIndex, live, run, write


@pytest.fixture
def report(open_index: OpenIndex, source: Path, tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server over an index with one report, and the path of its page."""
    write(source, "a.md", "alpha beta\n")
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"id": "1", "question": "alpha", "relevant": [{"document": "a.md"}]}) + "\n")
    runtime = open_index()
    run(runtime)
    _, path = publishing.evaluate_live(runtime, "default", questions, command="test")
    with Server(runtime, 0) as server:
        yield server, path


def get(url: str, **headers: str) -> HTTPResponse:
    response: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10)
    return response


def status(url: str, **headers: str) -> int:
    try:
        return get(url, **headers).status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_report_is_listed_and_shown_as_it_was_written(report: tuple[Server, Path]) -> None:
    server, path = report
    url = report_url(server.port, path)
    with get(server.url) as response:
        listing = response.read().decode()
    assert url.removeprefix(f"http://127.0.0.1:{server.port}") in listing
    with get(url) as response:
        assert response.read() == path.read_bytes()
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    with get(f"{server.url}/default/latest") as response:
        assert response.url == url
    with get(url.replace("report.html", "scores.json")) as response:
        assert "ndcg@10" in json.load(response)["retrieval"]
    assert status(f"http://127.0.0.1:{server.port}/health") == 200


def test_nothing_but_reports_can_be_named(report: tuple[Server, Path]) -> None:
    server, path = report
    folder = path.parent.name
    (path.parent / "secret.txt").write_text("x")
    for name in (
        f"default/{folder}/secret.txt",
        f"default/{folder}/../../../../rag_assets.toml",
        f"default/{folder}/..%2f..%2fcollections.json",
        f"..%2f..%2fetc/{folder}/report.html",
        "default/0009-000009/report.html",
        "nobody/latest",
        f"default/%00{folder}/report.html",
    ):
        assert status(f"{server.url}/{name}") == 404, name


def test_a_page_elsewhere_reaches_nothing_through_a_name_of_its_own(report: tuple[Server, Path]) -> None:
    server, _ = report
    assert status(server.url, Host="evil.example") == 400
    assert status(server.url, Host=f"localhost:{server.port}") == 200


def test_a_port_in_use_is_refused_with_the_cure(report: tuple[Server, Path], open_index: OpenIndex) -> None:
    server, _ = report
    with pytest.raises(ConfigurationError, match=rf"Port {server.port} can't be used: .* --reports-port"):
        Server(open_index(), server.port)
    assert live(open_index()) is not None
