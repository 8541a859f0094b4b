"""What a server's model has on this machine: its tokenizer, which is needed, and a copy of it, which vouches for it."""

from collections.abc import Callable

from rag_assets.embedding import model_files
from rag_assets.embedding.tokenizing import FolderTokenizer, TiktokenTokenizer
from rag_assets.errors import ConfigurationError
from rag_assets.models import Embedder
from rag_assets.settings import EmbedderSettings

_OPENAI = frozenset({"text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"})
"""Models whose tokenizer LiteLLM carries."""


def find_copy(
    settings: EmbedderSettings, served: str, build_local: Callable[[EmbedderSettings], Embedder]
) -> Embedder | None:
    """The local copy of the model that reference vectors come from, if there is to be one.

    Raises:
        ConfigurationError: ``parity`` names a model that can't be found here, or a server.
    """
    name = settings.parity
    if name == "none":
        return None
    if name == "auto":
        name = served.removeprefix("sentence-transformers/")
        if name not in model_files.BUNDLED:
            return None
    backend, colon, model = name.partition(":")
    chosen = {"backend": backend, "model": model} if colon else {"model": name}
    if chosen.get("backend") == "litellm":
        raise ConfigurationError(
            f"embedder.parity = {settings.parity!r}: a server is no reference; name a local model."
        )
    return build_local(EmbedderSettings.model_validate({**chosen, "dtype": settings.dtype}))


def find_tokenizer(settings: EmbedderSettings, served: str) -> FolderTokenizer | TiktokenTokenizer:
    """The tokenizer of a served model: as the settings say, else by the model's name, else that of ``parity``.

    Raises:
        ConfigurationError: it is not on this machine; says what to copy where.
    """
    if settings.tokenizer and settings.tokenizer.startswith("tiktoken:"):
        return TiktokenTokenizer(settings.tokenizer.removeprefix("tiktoken:"), settings.max_tokens or 8191)
    if settings.tokenizer is None and served in _OPENAI:
        return TiktokenTokenizer("cl100k_base")
    parity = settings.parity.rpartition(":")[2]
    names = (
        [settings.tokenizer] if settings.tokenizer else [served, *([parity] if parity not in ("auto", "none") else [])]
    )
    for name in names:
        folder = model_files.local_folder(name)
        if folder is not None and (folder / "tokenizer.json").is_file():
            return FolderTokenizer(name, folder)
    raise ConfigurationError(
        f"The tokenizer of {settings.model!r} is not on this machine ({', '.join(map(repr, names))} is no folder with a tokenizer.json "
        "and no model that is here), and without it no text can be cut to what the model reads. Copy the model's tokenizer.json, "
        "tokenizer_config.json and config.json into a folder and set embedder.tokenizer to it; or 'tiktoken:cl100k_base'."
    )
