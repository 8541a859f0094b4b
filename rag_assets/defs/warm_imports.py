"""Everything that a run imports, for the process that is forked for each run: it reads no settings and opens nothing, so that what is
forked is as if it had just started.
"""

import gc
import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_BEGAN = time.time()
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_MODULES = (
    "rag_assets.definitions", "dagster._cli.api", "dagster._core.definitions.external_asset",
    "dagster._core.definitions.repository_definition.repository_data_builder", "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process", "dagster._core.workspace.autodiscovery", "fsspec.implementations.local", "openvino",
    "pgvector.psycopg", "PIL.ImageDraw", "PIL.PngImagePlugin", "psycopg2.extras", "tokenizers", "upath.implementations.local", "zstandard",
)  # fmt: skip
"""What is imported within functions, too. What is missing here is imported by each run, as without any of this."""


def load() -> None:
    """Import them; what can't be imported is left to the run that needs it."""
    from rag_assets.embedding.openvino_runtime import import_openvino

    for name in _MODULES:
        with suppress(Exception):
            import_openvino() if name == "openvino" else import_module(name)
    # What is forked must not copy memory only because its garbage collector looked at it.
    gc.collect()
    gc.freeze()


def edited() -> bool:
    """Whether a module of this package has been written since it was imported here."""
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    try:
        return any(os.stat(file).st_ctime > _BEGAN for file in files if file.startswith(_PACKAGE))
    except OSError:
        return True


load()
