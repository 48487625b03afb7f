"""The verdict on a feature: one of ten, decided from the evidence by a table of rules that the report prints."""

from personaprobe.effects.verdict.damage import Damage
from personaprobe.effects.verdict.evidence import Evidence
from personaprobe.effects.verdict.rules import Conclusion, Verdict, decide, rules
from personaprobe.effects.verdict.thresholds import THRESHOLDS, Thresholds

__all__ = ["THRESHOLDS", "Conclusion", "Damage", "Evidence", "Thresholds", "Verdict", "decide", "rules"]
