"""Imported once by the process that trials are forked from: everything a trial imports, so that none pays for it."""

import gc
import os

from rag_assets.documents.worker import _ENVIRONMENT

os.environ.update(_ENVIRONMENT)

import matplotlib.figure  # noqa: F401
import pgvector.psycopg  # noqa: F401

from rag_assets.evaluation.report.formatting import html_environment, markdown_environment
from rag_assets_tests.faults import work  # noqa: F401
from rag_assets_tests.faults.parsing import default_parser_fp, parsed

parsed("warm.md", b"---\nk: v\n---\n# Warm\n\nOne paragraph.\n")
parsed("warm.docx", b"not a document")

html_environment().get_template("report.html")
markdown_environment().get_template("report.md")
default_parser_fp()

# Children must not copy memory only because their garbage collector looked at it.
gc.collect()
gc.freeze()
