"""personaprobe: does that feature, and only it, carry the misalignment?

Take a base, an insecure and a secure checkpoint, find what changed inside, remove it while the model answers, and
read a verdict with controls, intervals and costs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.6.0"

if TYPE_CHECKING:
    from personaprobe.effects.interventions.along_direction import Ablate as Ablate
    from personaprobe.effects.interventions.along_direction import Cap as Cap
    from personaprobe.effects.interventions.along_direction import Clamp as Clamp
    from personaprobe.effects.interventions.along_direction import Intervention as Intervention
    from personaprobe.effects.interventions.along_direction import Steer as Steer
    from personaprobe.effects.interventions.latents import AblateLatents as AblateLatents
    from personaprobe.effects.judges.judge import Case as Case
    from personaprobe.effects.judges.judge import Judge as Judge
    from personaprobe.effects.judges.judgement import Scored as Scored
    from personaprobe.effects.judges.judgement import Unscored as Unscored
    from personaprobe.effects.judges.registry import find_judge as find_judge
    from personaprobe.effects.judges.registry import register_judge as register_judge
    from personaprobe.effects.measures.preference import preference_gaps as preference_gaps
    from personaprobe.effects.targets.controls import MatchedControl as MatchedControl
    from personaprobe.effects.targets.controls import MeasuredAblation as MeasuredAblation
    from personaprobe.effects.targets.direction import DirectionTarget as DirectionTarget
    from personaprobe.effects.targets.discovery import Discovery as Discovery
    from personaprobe.effects.targets.feature import Feature as Feature
    from personaprobe.effects.targets.feature import find_feature as find_feature
    from personaprobe.effects.targets.feature import register_feature as register_feature
    from personaprobe.effects.targets.feature import register_target as register_target
    from personaprobe.effects.targets.target import FittedTarget as FittedTarget
    from personaprobe.effects.targets.target import Target as Target
    from personaprobe.errors import PersonaProbeError as PersonaProbeError
    from personaprobe.exports.control_vector import export_control_vector as export_control_vector
    from personaprobe.features.activations.recording import record as record
    from personaprobe.features.activations.store import ActivationStore as ActivationStore
    from personaprobe.features.directions.direction import Calibration as Calibration
    from personaprobe.features.directions.direction import Direction as Direction
    from personaprobe.features.directions.sources import DiscoveryActivations as DiscoveryActivations
    from personaprobe.features.directions.sources import register_source as register_source
    from personaprobe.features.sae.catalog import find_dictionary as find_dictionary
    from personaprobe.features.sae.dictionary import Dictionary as Dictionary
    from personaprobe.features.sae.diffing.all_rankings import all_rankings as all_rankings
    from personaprobe.features.sae.diffing.ranking import (
        top_by_mean_reciprocal_rank as top_by_mean_reciprocal_rank,
    )
    from personaprobe.features.sae.formats.dictionary_folder import load_dictionary as load_dictionary
    from personaprobe.features.sae.formats.saelens import save_dictionary as save_dictionary
    from personaprobe.features.sae.interpretation.latent_profile import latent_profiles as latent_profiles
    from personaprobe.features.sae.training.architectures.architecture import Architecture as Architecture
    from personaprobe.features.sae.training.architectures.architecture import Losses as Losses
    from personaprobe.features.sae.training.architectures.registry import (
        find_architecture as find_architecture,
    )
    from personaprobe.features.sae.training.architectures.registry import (
        register_architecture as register_architecture,
    )
    from personaprobe.features.sae.training.autoencoder import Autoencoder as Autoencoder
    from personaprobe.features.sae.training.batches import BatchLoader as BatchLoader
    from personaprobe.features.sae.training.trainer import SAERecipe as SAERecipe
    from personaprobe.features.sae.training.trainer import SAETrainer as SAETrainer
    from personaprobe.features.sae.training.trainer import train_dictionaries as train_dictionaries
    from personaprobe.models.backends.registry import register_backend as register_backend
    from personaprobe.models.edits.layout import BlockMap as BlockMap
    from personaprobe.models.language_model import LanguageModel as LanguageModel
    from personaprobe.models.loading import Placement as Placement
    from personaprobe.models.loading import load as load
    from personaprobe.models.tokens import Role as Role
    from personaprobe.models.weights.checkpoint import Checkpoint as Checkpoint
    from personaprobe.models.weights.checkpoint import Trio as Trio
    from personaprobe.organisms.organism import Organism as Organism
    from personaprobe.organisms.registration import read_organism_folder as read_organism_folder
    from personaprobe.organisms.registration import register_organism as register_organism
    from personaprobe.organisms.registry import find_organism as find_organism
    from personaprobe.organisms.registry import load_trio as load_trio
    from personaprobe.organisms.verification import verify_organism as verify_organism
    from personaprobe.questions.pairs import PairSet as PairSet
    from personaprobe.questions.pairs import load_prompts as load_prompts
    from personaprobe.questions.texts import load_texts as load_texts
    from personaprobe.site import Site as Site
    from personaprobe.studies.ablation.result import CausalVerdict as CausalVerdict
    from personaprobe.studies.ablation.study import ablate as ablate
    from personaprobe.studies.arms.plan import StudyPlan as StudyPlan
    from personaprobe.studies.reports.run_folder import remake_report as remake_report
    from personaprobe.studies.reports.run_folder import write_report as write_report
    from personaprobe.studies.reports.sections import ReportSection as ReportSection
    from personaprobe.studies.reports.sections import register_section as register_section
    from personaprobe.studies.sweep.grid import Grid as Grid
    from personaprobe.studies.sweep.study import sweep as sweep

_CONTENTS = {
    "Ablate": "effects.interventions.along_direction",
    "AblateLatents": "effects.interventions.latents",
    "ActivationStore": "features.activations.store",
    "Architecture": "features.sae.training.architectures.architecture",
    "Autoencoder": "features.sae.training.autoencoder",
    "BatchLoader": "features.sae.training.batches",
    "BlockMap": "models.edits.layout",
    "Calibration": "features.directions.direction",
    "Cap": "effects.interventions.along_direction",
    "Case": "effects.judges.judge",
    "CausalVerdict": "studies.ablation.result",
    "Checkpoint": "models.weights.checkpoint",
    "Clamp": "effects.interventions.along_direction",
    "Dictionary": "features.sae.dictionary",
    "Direction": "features.directions.direction",
    "DirectionTarget": "effects.targets.direction",
    "Discovery": "effects.targets.discovery",
    "DiscoveryActivations": "features.directions.sources",
    "Feature": "effects.targets.feature",
    "FittedTarget": "effects.targets.target",
    "Grid": "studies.sweep.grid",
    "Intervention": "effects.interventions.along_direction",
    "Judge": "effects.judges.judge",
    "LanguageModel": "models.language_model",
    "Losses": "features.sae.training.architectures.architecture",
    "MatchedControl": "effects.targets.controls",
    "MeasuredAblation": "effects.targets.controls",
    "Organism": "organisms.organism",
    "PairSet": "questions.pairs",
    "PersonaProbeError": "errors",
    "Placement": "models.loading",
    "ReportSection": "studies.reports.sections",
    "Role": "models.tokens",
    "SAERecipe": "features.sae.training.trainer",
    "SAETrainer": "features.sae.training.trainer",
    "Scored": "effects.judges.judgement",
    "Site": "site",
    "Steer": "effects.interventions.along_direction",
    "StudyPlan": "studies.arms.plan",
    "Target": "effects.targets.target",
    "Trio": "models.weights.checkpoint",
    "Unscored": "effects.judges.judgement",
    "ablate": "studies.ablation.study",
    "all_rankings": "features.sae.diffing.all_rankings",
    "export_control_vector": "exports.control_vector",
    "find_architecture": "features.sae.training.architectures.registry",
    "find_dictionary": "features.sae.catalog",
    "find_feature": "effects.targets.feature",
    "find_judge": "effects.judges.registry",
    "find_organism": "organisms.registry",
    "latent_profiles": "features.sae.interpretation.latent_profile",
    "load": "models.loading",
    "load_dictionary": "features.sae.formats.dictionary_folder",
    "load_prompts": "questions.pairs",
    "load_texts": "questions.texts",
    "load_trio": "organisms.registry",
    "preference_gaps": "effects.measures.preference",
    "read_organism_folder": "organisms.registration",
    "record": "features.activations.recording",
    "register_architecture": "features.sae.training.architectures.registry",
    "register_backend": "models.backends.registry",
    "register_feature": "effects.targets.feature",
    "register_judge": "effects.judges.registry",
    "register_organism": "organisms.registration",
    "register_section": "studies.reports.sections",
    "register_source": "features.directions.sources",
    "register_target": "effects.targets.feature",
    "remake_report": "studies.reports.run_folder",
    "save_dictionary": "features.sae.formats.saelens",
    "sweep": "studies.sweep.study",
    "top_by_mean_reciprocal_rank": "features.sae.diffing.ranking",
    "train_dictionaries": "features.sae.training.trainer",
    "verify_organism": "organisms.verification",
    "write_report": "studies.reports.run_folder",
}

__all__ = [
    "Ablate",
    "AblateLatents",
    "ActivationStore",
    "Architecture",
    "Autoencoder",
    "BatchLoader",
    "BlockMap",
    "Calibration",
    "Cap",
    "Case",
    "CausalVerdict",
    "Checkpoint",
    "Clamp",
    "Dictionary",
    "Direction",
    "DirectionTarget",
    "Discovery",
    "DiscoveryActivations",
    "Feature",
    "FittedTarget",
    "Grid",
    "Intervention",
    "Judge",
    "LanguageModel",
    "Losses",
    "MatchedControl",
    "MeasuredAblation",
    "Organism",
    "PairSet",
    "PersonaProbeError",
    "Placement",
    "ReportSection",
    "Role",
    "SAERecipe",
    "SAETrainer",
    "Scored",
    "Site",
    "Steer",
    "StudyPlan",
    "Target",
    "Trio",
    "Unscored",
    "ablate",
    "all_rankings",
    "export_control_vector",
    "find_architecture",
    "find_dictionary",
    "find_feature",
    "find_judge",
    "find_organism",
    "latent_profiles",
    "load",
    "load_dictionary",
    "load_prompts",
    "load_texts",
    "load_trio",
    "preference_gaps",
    "read_organism_folder",
    "record",
    "register_architecture",
    "register_backend",
    "register_feature",
    "register_judge",
    "register_organism",
    "register_section",
    "register_source",
    "register_target",
    "remake_report",
    "save_dictionary",
    "sweep",
    "top_by_mean_reciprocal_rank",
    "train_dictionaries",
    "verify_organism",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import personaprobe`` costs nothing."""
    if name not in _CONTENTS:
        raise AttributeError(f"module 'personaprobe' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"personaprobe.{_CONTENTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
