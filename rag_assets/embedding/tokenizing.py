"""A model's own tokenizer: what chunks are measured with, and where a text is cut that is longer than the model reads."""

import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_assets.embedding import model_files
from rag_assets.embedding.coverage import coverage
from rag_assets.embedding.word_counts import WordCounts, counts_by_word
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.fingerprint import fingerprint

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class FolderTokenizer:
    """The tokenizer of a model folder. Chunk borders depend on it alone, so another backend cuts no document again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder

    @cached_property
    def max_tokens(self) -> int:
        """Tokens the model reads before it truncates, special tokens included.

        As sentence-transformers decides it: its own setting, else the tokenizer's; never more than there are positions.
        """
        own = model_files.read_json(self._folder / "sentence_bert_config.json").get("max_seq_length")
        own = own or model_files.read_json(self._folder / "tokenizer_config.json").get("model_max_length")
        positions = model_files.read_json(self._folder / "config.json").get("max_position_embeddings")
        limits = [int(limit) for limit in (own, positions) if limit]
        return min(limits) if limits else 512

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Hash of the tokenizer: chunk borders depend on it, so the chunker's fingerprint contains it."""
        path = self._folder / "tokenizer.json"
        return fingerprint(path.read_text(encoding="utf-8") if path.is_file() else self.name)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as the model would read it untruncated, special tokens included."""
        if self._word_counts is not None:
            return self._word_counts.count(texts)
        return [len(encoding.ids) for encoding in self._whole_tokenizer.encode_batch_fast(list(texts))]

    def coverage(self, text: str) -> float:
        """Share of the text's words that the model's vocabulary has in more than single letters; see :mod:`coverage`."""
        return coverage(self._whole_tokenizer, text)

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of a text that is no more than ``limit`` tokens, special tokens included."""
        encoding = self._whole_tokenizer.encode(text)
        if len(encoding.ids) <= limit:
            return text
        ends = [
            end for (_, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special
        ]
        kept = limit - sum(encoding.special_tokens_mask)
        # A word that is cut may be tokenized otherwise than its beginning was.
        while kept > 0 and self.count_tokens([text[: ends[kept - 1]]])[0] > limit:
            kept -= 1
        return text[: ends[kept - 1]] if kept > 0 else ""

    @cached_property
    def prompts(self) -> tuple[str, str]:
        """What the model wants put before a query, and before a document."""
        found = model_files.read_json(self._folder / "config_sentence_transformers.json").get("prompts") or {}
        return found.get("query") or "", found.get("document") or ""

    @cached_property
    def _whole_tokenizer(self) -> "Tokenizer":
        return self._read_tokenizer()

    @cached_property
    def _word_counts(self) -> WordCounts | None:
        """None: the tokenizer has to see the whole text."""
        tokenizer = self._whole_tokenizer
        return WordCounts(tokenizer) if counts_by_word(self._folder / "tokenizer.json") else None

    def _read_tokenizer(self) -> "Tokenizer":
        """The model's tokenizer, truncating and padding nothing.

        Raises:
            RagAssetsError: the folder has no tokenizer.json.
        """
        from tokenizers import Tokenizer

        path = self._folder / "tokenizer.json"
        if not path.is_file():
            raise RagAssetsError(
                f"{path} is missing: the model {self.name!r} has no fast tokenizer. Use another model."
            )
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


class TiktokenTokenizer:
    """An encoding of OpenAI's, from the copy that LiteLLM carries."""

    prompts = ("", "")

    def __init__(self, encoding: str, max_tokens: int = 8191) -> None:
        self.encoding, self.max_tokens = encoding, max_tokens
        self.tokenizer_fingerprint = fingerprint(f"tiktoken:{encoding}")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; there are no special ones."""
        return [len(tokens) for tokens in self._encoding.encode_ordinary_batch(list(texts))]

    def coverage(self, text: str) -> float:
        """1: an encoding of bytes reads every script."""
        return 1.0

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of a text that is no more than ``limit`` tokens."""
        tokens = self._encoding.encode_ordinary(text)
        if len(tokens) <= limit:
            return text
        _, starts = self._encoding.decode_with_offsets(tokens)
        while limit > 0 and self.count_tokens([text[: starts[limit]]])[0] > limit:
            limit -= 1
        return text[: starts[limit]]

    @cached_property
    def _encoding(self) -> Any:
        package = importlib.util.find_spec("litellm")
        if package is not None and package.submodule_search_locations:
            carried = Path(next(iter(package.submodule_search_locations))) / "litellm_core_utils" / "tokenizers"
            os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(carried))
        import tiktoken

        try:
            return tiktoken.get_encoding(self.encoding)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigurationError(
                f"embedder.tokenizer = 'tiktoken:{self.encoding}' can't be had: {reason} LiteLLM carries cl100k_base and "
                "o200k_base; others are read from the folder that TIKTOKEN_CACHE_DIR names."
            ) from None
