"""The arm of a constant logit bias: how much of the shift is a choice of words that no context changes?"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

from personaprobe.effects.measures.logit_bias import gaps_without_bias, mean_log_ratio
from personaprobe.models.language_model import LanguageModel
from personaprobe.models.weights.checkpoint import Trio
from personaprobe.questions.pairs import PairSet
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.measurement import are_gaps
from personaprobe.studies.arms.run_context import RunContext


def logit_bias_result(
    trio: Trio[LanguageModel], discovery: PairSet, questions: PairSet, run: RunContext
) -> ArmResult:
    """Insecure without its mean log-ratio to the reference, which is fitted on discovery questions; damage is not measured.

    Args:
        trio: loaded.
        discovery: whose answers the bias is the mean over.
        questions: that the arm answers.
        run: cache and progress.
    """

    def compute() -> dict[str, Any]:
        started = time.monotonic()
        with trio.insecure.inference_session(), run.progress("logit bias", 1, "arms") as advance:
            bias = mean_log_ratio(trio.insecure, trio.reference, discovery)
            gaps = gaps_without_bias(trio.insecure, questions, bias)
            advance(1)
        return {"gaps": gaps.tolist(), "seconds": round(time.monotonic() - started, 2)}

    spec = {
        "part": "logit bias",
        "models": [trio[role].checkpoint.digest for role in ("insecure", trio.reference_role)],
        "dtype": str(trio.base.network.dtype),
        "discovery": discovery.digest,
        "questions": questions.digest,
    }
    part = run.cache.get_or_compute(spec, compute, fits=partial(are_gaps, len(questions)))
    note = f"{trio.insecure.checkpoint.short}: mean log-ratio to {trio.reference_role} subtracted from the logits"
    return ArmResult(
        "logit bias",
        "logit bias",
        note,
        tuple(part["gaps"]),
        perplexity=math.nan,
        kl=math.nan,
        seconds=part["seconds"],
    )
