"""Counting word by word gives what the tokenizer gives for the whole text."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rag_assets.embedding import word_counts
from rag_assets.embedding.model_files import model_folder
from rag_assets.embedding.tokenizing import FolderTokenizer
from rag_assets.embedding.word_counts import WordCounts, counts_by_word

from .models import BUNDLED

FOLDER = model_folder(BUNDLED)
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
TOKENIZER.no_truncation()
TOKENIZER.no_padding()
COUNTS = WordCounts(TOKENIZER)
SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
FRAGMENTS = [
    "word", "unaffable", "Straße", "ΟΔΥΣΣΕΥΣ", "İstanbul", "e\u0301", "\u0301", "\u0327\u0301", "漢字", "かな", "각", "नमस्ते", "😀",
    "\u200d", "\x00", "\ufffd", "\x07", "[CLS]", "[SEP", "]", "[MASK] ", "##ing", "x" * 150, "3.5", "e.g.", *SPACES,
]  # fmt: skip


def whole(texts: list[str]) -> list[int]:
    return [len(encoding.ids) for encoding in TOKENIZER.encode_batch_fast(texts)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.lists(st.sampled_from(FRAGMENTS)).map("".join), st.text(max_size=80)), max_size=4))
@example(["", " ", "\n"])
def test_counts_are_those_of_whole_texts(texts: list[str]) -> None:
    assert COUNTS.count(texts) == whole(texts)


def test_counts_stay_right_when_words_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "_KEPT_WORDS", 3)
    counts = WordCounts(TOKENIZER)
    for start in range(20):
        texts = [f"tokenisation{number} of words" for number in range(start, start + 5)]
        assert counts.count(texts) == whole(texts)


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}},
        {"normalizer": None},
        {"added_tokens": [{"id": 1, "content": "two words"}]},
    ],
)
def test_a_tokenizer_that_looks_across_words_is_given_whole_texts(tmp_path: Path, change: dict[str, Any]) -> None:
    assert counts_by_word(FOLDER / "tokenizer.json")
    own = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**own, **change}), encoding="utf-8")
    assert not counts_by_word(tmp_path / "tokenizer.json")


def test_a_model_folder_counts_as_its_tokenizer_does(tmp_path: Path) -> None:
    shutil.copyfile(FOLDER / "tokenizer.json", tmp_path / "tokenizer.json")
    texts = ["Structural homeostasis\nof dendrites", "", "漢字 and kana"]
    assert FolderTokenizer("a model", tmp_path).count_tokens(texts) == whole(texts)
