"""An NVIDIA GPU as the driver's own tool describes it, without importing PyTorch; and batches that fit into its memory."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from rag_assets.errors import RagAssetsError

_HALF_PRECISION, _BFLOAT16 = (7, 0), (8, 0)
"""Compute capabilities from which a GPU has fast float16 (Volta), and bfloat16 (Ampere)."""
Rows = TypeVar("Rows")


@dataclass(frozen=True, slots=True)
class Gpu:
    """What decides number type and batch."""

    capability: tuple[int, int]
    free_bytes: int


@lru_cache(maxsize=1)
def nvidia_gpu() -> Gpu | None:
    """The first NVIDIA GPU of this machine, as it was when first asked; None: there is none that PyTorch would use."""
    tool = shutil.which("nvidia-smi")
    if tool is None or not _torch_has_cuda():
        return None
    try:
        done = subprocess.run(
            [tool, "--query-gpu=compute_cap,memory.free", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return parsed(done.stdout)


def _torch_has_cuda() -> bool:
    """True when the PyTorch that is installed is a build for NVIDIA GPUs."""
    package = importlib.util.find_spec("torch")
    folders = package.submodule_search_locations if package else None
    return any(any((Path(folder) / "lib").glob("*torch_cuda*")) for folder in folders or ())


def parsed(text: str) -> Gpu | None:
    """The first line of the tool's answer: ``9.0, 80443`` (MiB)."""
    try:
        capability, free = text.splitlines()[0].split(",")
        major, minor = capability.strip().split(".")
        return Gpu((int(major), int(minor)), int(free) * 2**20)
    except (IndexError, ValueError):
        return None


def fastest_dtype(gpu: Gpu) -> str:
    """The number type a GPU multiplies fastest without losing what distinguishes vectors."""
    if gpu.capability >= _BFLOAT16:
        return "bfloat16"
    return "float16" if gpu.capability >= _HALF_PRECISION else "float32"


def is_out_of_memory(error: BaseException) -> bool:
    """True for ``torch.OutOfMemoryError`` (by any of its names), and for what cuBLAS and MPS raise in its place."""
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in text or "cublas_status_alloc_failed" in text


def shrinking(
    texts: Sequence[str],
    batch: int,
    encode: Callable[[Sequence[str], int], Rows],
    free: Callable[[], object],
    name: str,
) -> tuple[Rows, int]:
    """Encode texts; each time memory is exhausted, again with half the batch, down to one.

    Args:
        texts: All of them; ``encode`` is given them whole, for it puts like lengths together.
        batch: Texts a forward pass, to begin with.
        encode: Encodes texts, so many a pass.
        free: Gives unused memory back before the next try.
        name: The model's, for messages.

    Returns:
        What ``encode`` returned, and the batch that worked.

    Raises:
        RagAssetsError: one text alone exhausts it.
    """
    while True:
        try:
            return encode(texts, batch), batch
        except Exception as error:  # PyTorch's own class, which has several names, is not imported for this
            if not is_out_of_memory(error):
                raise
            exhausted = " ".join(str(error).split())[:200]
        # Not inside the handler: the exception's traceback holds the tensors that fill the memory.
        free()
        if batch == 1:
            raise RagAssetsError(
                f"The model {name!r} runs out of memory on a single text: {exhausted}. Let no other process use the GPU, or set "
                'embedder.dtype = "float16", a smaller embedder.model, or embedder.backend = "openvino" to use the processor.'
            )
        batch = max(1, min(batch, len(texts)) // 2)
