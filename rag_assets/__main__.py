"""``python -m rag_assets`` is the command ``rag-assets``."""

from rag_assets.cli import main

main(prog_name="rag-assets")
