"""What ``--compare`` understands."""

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.comparison.variants import parse_variants
from rag_assets.settings import ChunkingSettings

CONFIGURED = ChunkingSettings(max_tokens=200, overlap_tokens=8, contextual=False)


def test_variants_say_a_strategy_and_what_differs_from_the_configuration() -> None:
    found = parse_variants("chunking=sliding, recursive:128,semantic:64:overlap_tokens=4:contextual=true", CONFIGURED)
    assert [variant.name for variant in found] == [
        "recursive:200", "sliding", "recursive:128", "semantic:64:overlap_tokens=4:contextual=true"
    ]  # fmt: skip
    assert [variant.configured for variant in found] == [True, False, False, False]
    assert found[1].settings == CONFIGURED.model_copy(update={"strategy": "sliding"})
    assert found[2].settings == CONFIGURED.model_copy(update={"max_tokens": 128})
    assert found[3].settings == ChunkingSettings(strategy="semantic", max_tokens=64, overlap_tokens=4, contextual=True)


def test_the_configured_variant_is_not_measured_twice() -> None:
    found = parse_variants("chunking=recursive,recursive:200,sliding,sliding", CONFIGURED)
    assert [variant.name for variant in found] == ["recursive:200", "sliding"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("chunking", "can't be understood"),
        ("chunking=", "can't be understood"),
        ("embedder=a,b", "can't be understood"),
        (
            "chunking=fancy",
            "'fancy' is no way to cut documents: chunking.strategy = 'fancy': Input should be 'recursive'",
        ),
        ("chunking=recursive:8", "chunking.max_tokens = '8': Input should be greater than or equal to 16"),
        ("chunking=recursive:many", "chunking.max_tokens = 'many'"),
        ("chunking=recursive:64:8", "'8' in 'recursive:64:8' must look like SETTING=VALUE"),
        ("chunking=recursive:size=8", "chunking.size = '8'"),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_variants(text, CONFIGURED)
    assert reason in str(error.value)
