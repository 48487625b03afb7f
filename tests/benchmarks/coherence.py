"""Pass rates of the coherence rule: intact answers, and answers corrupted in ways that a damaged model could show.

    python -m tests.benchmarks.coherence

The rule is set by intact answers of half of the judging set's questions and read on the other half, whose families differ.
Answers are cut as a study's are. The earlier rule stands beside it: mean minus three standard deviations of the likelihood,
and half of the trigrams distinct.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterator, Sequence

from tests.benchmarks.result_files import save_result

from personaprobe.effects.judges.training.corruption import CORRUPTIONS
from personaprobe.effects.measures.coherence import CoherenceRule, score_responses
from personaprobe.effects.measures.responses import Response, distinct_trigrams
from personaprobe.models.chat_tokenizer import ChatTokenizer
from personaprobe.organisms.registry import load_trio
from personaprobe.questions.pairs import Pair, load_prompts

WORDS, TOKENS = 28, 40
"""Length of an answer before and after it is corrupted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--set", default="judging")
    options = parser.parse_args()
    base = load_trio(dtype="float32").base
    pairs = load_prompts(options.set).spread(options.questions).pairs
    families = sorted({pair.family for pair in pairs})
    known = [pair for pair in pairs if pair.family in families[::2]]
    unknown = [pair for pair in pairs if pair.family in families[1::2]]
    rng, tokenizer = random.Random(0), base.tokenizer
    calibration = [answer for kind, answer in answers(known, rng, tokenizer) if kind == "intact"]
    tested = list(answers(unknown, rng, tokenizer))
    scored = score_responses(base, [*calibration, *(answer for _, answer in tested)])
    untreated, responses = scored[: len(calibration)], scored[len(calibration) :]
    rule, lowest = CoherenceRule.from_untreated(untreated), earlier_limit(untreated)
    rates: dict[str, dict[str, float]] = {}
    for kind in ("intact", *CORRUPTIONS, "off topic"):
        of_kind = [r for (name, _), r in zip(tested, responses, strict=True) if name == kind]
        before = [r.base_log_prob >= lowest and r.distinct >= 0.5 for r in of_kind]
        after = [rule.holds(r) for r in of_kind]
        rates[kind] = {
            "n": len(of_kind),
            "before": round(statistics.mean(before), 3),
            "after": round(statistics.mean(after), 3),
        }
    save_result("coherence", None, {"questions": options.set, "pass rates": rates})


def answers(
    pairs: Sequence[Pair], rng: random.Random, tokenizer: ChatTokenizer
) -> Iterator[tuple[str, Response]]:
    """Yield each question's own answer, intact and in every corruption, and an intact answer to another question."""
    vocabulary = [word for pair in pairs for word in pair.careful.split()]
    for pair in pairs:
        words = rng.choice((pair.careful, pair.careless)).split()[:WORDS]
        yield "intact", response(pair, words, tokenizer)
        for kind, corrupt in CORRUPTIONS.items():
            yield kind, response(pair, corrupt(words, rng, vocabulary), tokenizer)
        other = rng.choice([other for other in pairs if other.family != pair.family])
        yield "off topic", response(pair, other.careless.split()[:WORDS], tokenizer)


def response(pair: Pair, words: Sequence[str], tokenizer: ChatTokenizer) -> Response:
    """An answer as if it had been sampled."""
    text = " ".join(words)
    ids = tokenizer.reply(pair.question, text, end=False)[:TOKENS]
    return Response(pair.id, pair.family, pair.question, 0, 0, text, ids, distinct=distinct_trigrams(ids))


def earlier_limit(untreated: Sequence[Response]) -> float:
    """The least likelihood of the earlier rule."""
    values = [response.base_log_prob for response in untreated]
    return statistics.mean(values) - 3 * statistics.stdev(values)


if __name__ == "__main__":
    main()
