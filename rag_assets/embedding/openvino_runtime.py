"""An OpenVINO model on the processor: load it, and run texts through it in batches.

It gives the last hidden states of every token and leaves it to the caller what becomes of them.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rag_assets.embedding.hardware import instruction_sets, usable_cores
from rag_assets.fingerprint import fingerprint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""``EmbedderSettings.dtype`` -> OpenVINO's inference precision."""

DEFAULT_BATCH = 4
"""Texts per inference. Measured on two Zen 5 cores: as fast as 8 and 5 % faster than 16, which are padded more, the more the fewer
texts there are to sort by length: on two cores without AVX-512, 220 at a time, 3 % faster than 8 and as fast as 2."""

_LENGTH_STEP = 8
"""Lengths are padded to multiples of it: fewer shapes to prepare kernels for, at the price of 3 % more tokens."""

_WINDOW = 1024
"""Texts that are tokenised together and sorted by length: bounds the memory, whatever the length of the list."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of about one length, padded on the right."""

    rows: list[int]
    """Where they stand in the list of texts."""
    ids: npt.NDArray[np.int64]
    """Token ids, (n, length)."""
    mask: npt.NDArray[np.int64]
    """1 for a token, 0 for padding, (n, length)."""


Consume = Callable[[Batch, npt.NDArray[np.float32]], None]
"""Takes a batch and its last hidden states, (n, length, dimension). The array is only valid during the call."""


def import_openvino() -> Any:
    """The package ``openvino``, kept from reporting its import to Google Analytics.

    It does so from a thread, without asking, unless its dependency openvino_telemetry can't be imported.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # documented: makes the import fail
    import openvino

    return openvino


class HiddenStates:
    """A compiled encoder. Any number of threads may call :meth:`run` at once; they share the cores batch by batch."""

    def __init__(self, xml: Path, dtype: str, *, keep: bool = True) -> None:
        """Read and compile ``xml``, with one single-threaded stream per usable core.

        ``keep``: leave the compiled graph beside it for the next process.

        Raises:
            RuntimeError: OpenVINO can't read or compile it.
        """
        self._openvino = import_openvino()
        self._streams = usable_cores()
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "NUM_STREAMS": str(self._streams),
            "INFERENCE_NUM_THREADS": self._streams,
            # Several processes share the machine; each would pin its streams to the same first cores.
            "ENABLE_CPU_PINNING": False,
        }
        core = self._openvino.Core()
        try:
            self._compiled = core.compile_model(
                str(xml), "CPU", {**options, **(_kept_beside(xml, options) if keep else {})}
            )
        except RuntimeError:
            # Where nothing can be kept, a folder that may only be read or a full disk, nothing has to be.
            self._compiled = core.compile_model(str(xml), "CPU", options)

    def run(self, texts: Sequence[str], tokenizer: "Tokenizer", consume: Consume, batch_size: int | None) -> None:
        """Give the hidden states of every text to ``consume``, batch by batch, in no particular order.

        Raises:
            RuntimeError: inference failed.
        """
        # Few texts are spread over all streams instead of filling one batch.
        size = min(batch_size or DEFAULT_BATCH, -(-len(texts) // self._streams))
        # Two requests per stream: each has work waiting while a result is consumed here.
        ahead = min(2 * self._streams, -(-len(texts) // size))
        idle = [self._compiled.create_infer_request() for _ in range(ahead)]
        running: deque[tuple[Any, Batch]] = deque()
        # Not AsyncInferQueue (2026.4): after a callback its threads need the GIL once more, and a compiled model that is
        # dropped at that moment holds the GIL while it joins them; one process in thirty hung for ever.
        try:
            for batch in _batches(texts, tokenizer, size):
                if not idle:
                    idle.append(_finish(*running.popleft(), consume))
                request = idle.pop()
                request.start_async([batch.ids, batch.mask])
                running.append((request, batch))
            while running:
                _finish(*running.popleft(), consume)
        finally:
            for request, _ in running:
                request.wait()


def _kept_beside(xml: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that keep the compiled graph, without its weights, for the next process: compiling takes twice as long as reading that.

    OpenVINO names what it keeps by the model and the processor's brand alone, and what it keeps was made for a number type and an
    instruction set: each combination has a folder. What is not as it was written is compiled again.
    """
    key = fingerprint({"options": dict(options), "processor": instruction_sets()})
    return {
        "CACHE_DIR": str(xml.parent / "compiled" / key),
        "CACHE_MODE": "OPTIMIZE_SIZE",
        # Two processes may write one file: it is read, so that what the other truncates is only broken, not gone from under this one.
        "ENABLE_MMAP": False,
    }


def _finish(request: Any, batch: Batch, consume: Consume) -> Any:
    request.wait()
    consume(batch, request.get_output_tensor(0).data)
    return request


def _batches(texts: Sequence[str], tokenizer: "Tokenizer", size: int) -> Iterator[Batch]:
    for start in range(0, len(texts), _WINDOW):
        window = texts[start : start + _WINDOW]
        tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(window))]
        longest_first = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))
        for first in range(0, len(tokens), size):
            rows = longest_first[first : first + size]
            yield _padded([start + row for row in rows], [tokens[row] for row in rows])


def _padded(rows: list[int], tokens: list[list[int]]) -> Batch:
    length = -(-max(len(ids) for ids in tokens) // _LENGTH_STEP) * _LENGTH_STEP
    shape = (len(tokens), length)
    batch = Batch(rows, np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    for row, ids in enumerate(tokens):
        batch.ids[row, : len(ids)] = ids
        batch.mask[row, : len(ids)] = 1
    return batch
