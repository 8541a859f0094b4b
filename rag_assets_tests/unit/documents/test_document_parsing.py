import os
import signal
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from rag_assets.documents.parsing import ParserPool, parser_fingerprint
from rag_assets.errors import RagAssetsError, UnparsableDocument
from rag_assets.models import ParsedDocument
from rag_assets.settings import ParsingSettings
from rag_assets_tests.unit.documents.making import word, workbook

SLOW = ("a1@b. 1-2-3. " * 70_000).encode()
"""Plain text of 0.9 MB: seconds of classification."""


def workers_of(parent: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if "rag_assets.documents.worker" in " ".join(child.cmdline())
    ]


def new_workers(before: list[psutil.Process]) -> list[psutil.Process]:
    return [worker for worker in workers_of(os.getpid()) if worker not in before]


def test_no_process_starts_before_the_first_file_and_none_is_left_after_closing() -> None:
    before = workers_of(os.getpid())
    with ParserPool(ParsingSettings()) as pool:
        assert new_workers(before) == []
        pool.parse("a.csv", b"a,b\n1,2\n")
        (worker,) = new_workers(before)
        folder = Path(worker.cwd())
        assert folder.is_dir()
    assert not worker.is_running()
    assert not folder.exists()
    with pytest.raises(RagAssetsError, match="closed"):
        pool.parse("a.csv", b"a,b\n")


def test_a_process_that_was_killed_between_files_is_replaced() -> None:
    before = workers_of(os.getpid())
    with ParserPool(ParsingSettings()) as pool:
        pool.parse("a.csv", b"a,b\n1,2\n")
        (first,) = new_workers(before)
        first.kill()
        assert pool.parse("a.csv", b"a,b\n1,2\n").text == "a | b\n1 | 2"
        (second,) = new_workers(before)
        assert second.pid != first.pid


def test_a_file_that_takes_too_long_is_quarantined_and_the_next_one_is_parsed() -> None:
    with ParserPool(ParsingSettings(timeout_seconds=0.1)) as pool:
        slow, quick = pool.parse_many([("slow.txt", SLOW), ("quick.csv", b"a,b\n1,2\n")])
    assert isinstance(slow, UnparsableDocument)
    assert "parsing.timeout_seconds = 0.1" in str(slow)
    assert isinstance(quick, ParsedDocument)


def test_a_file_that_needs_too_much_memory_is_quarantined_and_the_next_one_is_parsed() -> None:
    hungry = b"<r>" + b"<a/>" * 8_000_000 + b"</r>"
    with ParserPool(ParsingSettings(memory_mb=512)) as pool:
        first, second = pool.parse_many([("hungry.xml", hungry), ("small.csv", b"a,b\n1,2\n")])
    assert "needs more than parsing.memory_mb = 512 MB" in str(first)
    assert isinstance(second, ParsedDocument)


def test_results_come_in_order_from_several_processes_and_threads() -> None:
    items = [(f"{index}.csv", f"id,n\n{index},x\n".encode()) for index in range(40)]
    items[7] = ("7.csv", b"")
    with ParserPool(ParsingSettings(workers=2)) as pool:
        results = list(pool.parse_many(items))
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda item: pool.parse(*item).text, items[10:20])) == [
                f"id | n\n{index} | x" for index in range(10, 20)
            ]
    assert [result.text if isinstance(result, ParsedDocument) else str(result) for result in results] == [
        "is empty" if index == 7 else f"id | n\n{index} | x" for index in range(40)
    ]


@pytest.mark.parametrize("busy", [False, True])
def test_the_parsing_process_and_its_folder_end_with_the_parent_even_in_the_middle_of_a_file(busy: bool) -> None:
    script = (
        "import os, signal, threading, time, psutil\n"
        "from rag_assets.documents.parsing import ParserPool\n"
        "from rag_assets.settings import ParsingSettings\n"
        "pool = ParserPool(ParsingSettings())\n"
        "pool.parse('a.md', b'warm')\n"
        "slow = b'[a' * 400_000\n"
        "busy = threading.Thread(target=pool.parse, args=('slow.md', slow), daemon=True)\n"
        f"{busy} and busy.start()\n"
        "time.sleep(1)\n"
        "child = psutil.Process().children()[0]\n"
        "print(child.pid, child.cwd(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == -signal.SIGKILL
    number, folder = result.stdout.split()
    worker = int(number)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the parsing process outlived its parent"
        time.sleep(0.1)
    assert not Path(folder).exists()


def test_the_parsing_process_sees_no_secrets_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    before = workers_of(os.getpid())
    with ParserPool(ParsingSettings()) as pool:
        pool.parse("a.csv", b"a,b")
        (worker,) = new_workers(before)
        assert "OPENAI_API_KEY" not in worker.environ()
        assert Path(worker.environ()["HOME"]) == Path(worker.cwd())


def test_prose_is_parsed_without_a_network_and_nothing_is_installed() -> None:
    packages = Path(sysconfig.get_paths()["purelib"])
    before = sorted(path.name for path in packages.iterdir())
    script = (
        "from rag_assets.documents.worker import _refuse_outside_world\n"
        "_refuse_outside_world()\n"
        "from rag_assets.documents.formats import format_of\n"
        "read = format_of('.txt').load()\n"
        "print([b.kind for b in read(b'Ducks swim in the lake. They were seen there.\\n\\nA list', 10**6).blocks])\n"
        "import socket, subprocess, sys\n"
        "read = format_of('.html').load()\n"
        "print([b.kind for b in read(b'<h1>Ducks</h1><p>Ducks swim in the lake.', 10**6).blocks])\n"
        "print(sorted(name for name in ('bs4', 'iso639', 'numpy', 'requests', 'spacy', 'torch') if sys.modules.get(name)))\n"
        "from unstructured.partition.common.lang import _get_iso639_language_object\n"
        "print(_get_iso639_language_object('deu').name)\n"
        "from unstructured.cleaners.core import clean_extra_whitespace_with_index_run\n"
        "print(clean_extra_whitespace_with_index_run('a  b')[1].tolist())\n"
        "from unstructured.partition.html import partition_html\n"
        "print([e.text for e in partition_html(text='<div class=Page><p>Ducks.</p></div>', html_parser_version='v2', languages=['eng'])])\n"
        "for attempt in (lambda: socket.create_connection(('127.0.0.1', 9)), lambda: subprocess.run(['true'])):\n"
        "    try:\n"
        "        attempt()\n"
        "    except PermissionError as error:\n"
        "        print('refused')\n"
    )
    environment = {**os.environ, "SCARF_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    # They take longer to import than all the rest, and nothing asks them; who does gets them.
    kinds, others = ["['NarrativeText', 'Text']", "['Title', 'Text']"], ["German", "[0.0, 0.0, 1.0, 1.0]"]
    assert result.stdout.splitlines()[-8:] == [*kinds, "[]", *others, "['', 'Ducks.']", "refused", "refused"]
    assert sorted(path.name for path in packages.iterdir()) == before


def test_punctuation_is_what_unstructured_takes_for_it_in_all_of_unicode() -> None:
    ours = "from rag_assets.documents.offline_nlp import install; install()\n"
    # A spreadsheet's reader has imported it by then.
    late = "import numpy\n" + ours
    script = (
        "import sys\n"
        "from hashlib import sha256\n"
        "from unstructured.cleaners.core import remove_punctuation, sys as theirs\n"
        "text = ''.join(chr(code) for code in range(sys.maxunicode + 1) if not 0xd800 <= code < 0xe000)\n"
        "kept = remove_punctuation(text)\n"
        "assert theirs is sys and len(kept) < len(text) and remove_punctuation(text) == kept\n"
        "from unstructured.cleaners.core import remove_sentence_punctuation\n"
        "print(sha256(kept.encode()).hexdigest(), remove_sentence_punctuation('a-b, c!', ['-']))\n"
    )
    environment = {**os.environ, "SCARF_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    said = [
        subprocess.run(
            [sys.executable, "-c", begin + script], capture_output=True, text=True, check=True, env=environment
        ).stdout
        for begin in ("", ours, late)
    ]

    assert said[0] == said[1] == said[2] != ""


def test_prose_after_a_spreadsheet_is_parsed_by_the_same_process() -> None:
    before = workers_of(os.getpid())
    with ParserPool(ParsingSettings()) as pool:
        pool.parse("a.xlsx", workbook({"Sheet": [["a", "b"], [1, 2]]}))
        (worker,) = new_workers(before)
        assert pool.parse("b.md", b"# Ducks\n\nThey swim in the lake.").text
        assert new_workers(before) == [worker]


def test_the_fingerprint_follows_what_decides_a_result_and_needs_no_parser() -> None:
    assert parser_fingerprint(ParsingSettings()) == parser_fingerprint(ParsingSettings(workers=4, timeout_seconds=5))
    assert parser_fingerprint(ParsingSettings()) != parser_fingerprint(ParsingSettings(max_characters=5000))
    script = (
        "import sys\n"
        "import rag_assets.documents.parsing as parsing, rag_assets.documents.source\n"
        "from rag_assets.settings import ParsingSettings\n"
        "parsing.parser_fingerprint(ParsingSettings())\n"
        "heavy = {'unstructured', 'lxml', 'docx', 'torch', 'spacy', 'docutils', 'openpyxl'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "[]\n"


def test_a_document_over_the_character_limit_is_named_with_its_length_and_the_setting() -> None:
    with ParserPool(ParsingSettings(max_characters=1000)) as pool:
        for uri, data in (("a.txt", b"word " * 1000), ("a.docx", word([("Normal", "word " * 100)] * 12))):
            with pytest.raises(UnparsableDocument, match=r"has \d,\d{3} characters .*max_characters is 1,000; raise"):
                pool.parse(uri, data)
