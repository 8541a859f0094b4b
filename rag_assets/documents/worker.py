"""The parsing process: ``python -m rag_assets.documents.worker`` reads requests on stdin until it closes.

It parses what strangers wrote, so it runs with limits on memory, time, files and descriptors, in a private folder,
and an audit hook refuses every connection and every new process.
"""

import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NoReturn

from rag_assets.documents.draft import finish
from rag_assets.documents.formats import format_of
from rag_assets.documents.guards import is_out_of_memory
from rag_assets.documents.protocol import BrokenFrame, document_to_json, read_frame, write_frame
from rag_assets.errors import UnparsableDocument

_ENVIRONMENT = {
    "SCARF_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "UNSTRUCTURED_DISABLE_NOTICE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""unstructured reports home at import unless told otherwise; every BLAS thread reserves tens of MB of address space."""
_MAX_FILE_BYTES = 16_000_000
_MAX_DESCRIPTORS = 128
_MAX_REQUEST = 1 << 32
_RECURSION = 3000
"""unstructured walks HTML by recursion, about five frames a level; libxml2 gives it at most 256 levels."""


def main() -> None:
    """Serve requests until stdin closes. Arguments: memory limit in MB, seconds per file."""
    memory_mb, seconds = int(sys.argv[1]), float(sys.argv[2])
    os.environ.update(_ENVIRONMENT)
    requests, replies = sys.stdin.buffer, _private_stdout()
    _limit_resources(memory_mb)
    _refuse_outside_world()
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    sys.setrecursionlimit(_RECURSION)
    while True:
        try:
            header, body = read_frame(requests, _MAX_REQUEST)
        except BrokenFrame:
            # The parent removes this folder too, unless it was killed.
            shutil.rmtree(os.getcwd(), ignore_errors=True)
            return
        _limit_processor_time(seconds)
        _serve(replies, header, body)


def _serve(replies: BinaryIO, header: dict[str, Any], body: bytes) -> None:
    suffix = PurePosixPath(header["uri"]).suffix.lower()
    try:
        if header["request"] == "prepare":
            write_frame(replies, _prepare(suffix))
            return
        draft = format_of(suffix).load()(body, header["max_characters"])
        document = finish(draft, header["uri"], header["max_characters"])
        write_frame(replies, {"document": document_to_json(document)})
    except UnparsableDocument as error:
        write_frame(replies, {"error": str(error)})
    except RecursionError:
        write_frame(replies, {"error": "is nested too deeply to be parsed"})
    except Exception as error:
        # A library may raise anything for a damaged file.
        if is_out_of_memory(error):
            # What is left in memory is unknown: start afresh.
            write_frame(replies, {"memory": True})
            sys.exit(1)
        reason = " ".join(str(error).split())[:300]
        write_frame(replies, {"error": f"can't be parsed as {suffix}: {type(error).__name__}: {reason}"})


def _prepare(suffix: str) -> dict[str, Any]:
    try:
        format_of(suffix).load()
    except (Exception, SystemExit) as error:
        # A library that is missing or broken is no fault of the file: nothing may be quarantined for it.
        return {"broken": f"{type(error).__name__}: {error}"}
    return {}


def _private_stdout() -> BinaryIO:
    """The pipe to the parent, out of reach of libraries that print: their stdout goes to stderr."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def _limit_resources(memory_mb: int) -> None:
    import resource

    limits = (
        (resource.RLIMIT_AS, memory_mb * 1_000_000),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
    )
    for name, value in limits:
        # macOS refuses RLIMIT_AS; the other limits still hold there.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, (value, value))


def _limit_processor_time(seconds: float) -> None:
    """A backstop for a parent that can no longer keep the time: the limit is on all files, so it moves on."""
    import resource

    used = time.process_time()
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + 2 * seconds) + 60, resource.RLIM_INFINITY))


_REFUSED = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "socket.bind",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
)


def _refuse_outside_world() -> None:
    def refuse(event: str, _: tuple[Any, ...]) -> None:
        if event in _REFUSED:
            raise PermissionError(f"{event} is not allowed while parsing")

    sys.addaudithook(refuse)


def _exit_with_parent(parent: int) -> NoReturn:
    """End within a second of a killed parent, even in the middle of a file.

    Unlike PR_SET_PDEATHSIG this does not end the process when only the thread that started it ends.
    """
    while os.getppid() == parent:
        time.sleep(1)
    shutil.rmtree(os.getcwd(), ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
