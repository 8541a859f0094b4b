"""The decorators of unstructured's partitioners add nothing that is read of its elements."""

import os
import subprocess
import sys

import pytest

COMPARE = """
from rag_assets.documents.formats import format_of
for suffix in (".txt", ".html"):
    format_of(suffix).load()
from unstructured.partition.html import partition_html
from unstructured.partition.text import partition_text
from rag_assets.documents.formats.elements import LANGUAGES, bare, blocks_of

HTML = '''<html><body><h1>Guide</h1><p>The gravel path bent around a quiet pond.</p><h2>Parts</h2><ul><li>One</li>
<li>Two<ul><li>Inner</li></ul></li></ul><table><tr><th>Name</th></tr><tr><td>a b</td></tr></table><pre>x = 1</pre>
<p>Ein Absatz auf Deutsch, der lang genug ist.</p><p></p><img src="x.png" alt="A duck"><hr></body></html>'''
TEXT = "A title\\n\\nThe gravel path bent\\naround a quiet pond.\\n\\n- one\\n- two\\n\\n1. first\\n\\nme@example.com\\n\\n7\\n"
for partitioner, text in ((partition_html, HTML), (partition_text, TEXT)):
    assert bare(partitioner) is not partitioner
    found = [list(blocks_of(each(text=text, languages=LANGUAGES))) for each in (bare(partitioner), partitioner)]
    assert found[0] == found[1], found
    assert len(found[0]) > 4
"""


@pytest.mark.slow
def test_bare_partitioners_find_the_same_blocks() -> None:
    quiet = {**os.environ, "SCARF_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr
