"""Controls that control: about as strong as the feature, drawn again where not, and undeciding where no draw is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch

import personaprobe as pp
from personaprobe.effects.interventions.energy import FAIR
from personaprobe.effects.targets.controls import MatchedControl
from personaprobe.storage.run_cache import spec_digest
from personaprobe.studies.ablation.result import CausalVerdict
from personaprobe.studies.arms.arm import identity
from personaprobe.studies.arms.arm_result import ArmResult
from personaprobe.studies.arms.controls import (
    DRAWS,
    Control,
    KeptDraw,
    candidate_controls,
    deciding_controls,
    fair_draw,
    shown_controls,
)
from personaprobe.studies.arms.kinds import DECIDING
from personaprobe.studies.arms.study_arms import StudyArms
from personaprobe.studies.arms.treatment import Treatment

FAIR_EVERYWHERE = dict.fromkeys(range(10), 1.0)
ASLEEP = dict.fromkeys(range(10), 0.05)
OFTEN_ASLEEP = FAIR_EVERYWHERE | dict.fromkeys(range(3), 0.05)


FIRST = Control("random 1", "random", 1000)


@dataclass(frozen=True)
class Scripted:
    """Draws have the coefficients of a list, one after the other."""

    coefficients: Sequence[Mapping[int, float]]
    seeds: list[int] = field(default_factory=list)

    def __call__(self, control: Control) -> MatchedControl:
        self.seeds.append(control.seed)
        direction = pp.Direction(pp.Site(1), torch.tensor([1.0, 2.0, 3.0, control.seed]), "test")
        return MatchedControl(pp.Ablate(direction), {}, self.coefficients[len(self.seeds) - 1])


def drawn(control: Control, draw: Scripted, others: Sequence[pp.Intervention] = ()) -> KeptDraw:
    kept = fair_draw(control, draw, others)
    assert kept is not None
    return kept


def test_a_control_that_is_fair_is_drawn_once() -> None:
    draw = drawn(FIRST, Scripted([FAIR_EVERYWHERE]))
    assert (draw.control, draw.matched.coefficients, draw.draws) == (FIRST, FAIR_EVERYWHERE, 1)


def test_a_control_that_does_next_to_nothing_is_drawn_again_from_seeds_no_other_uses() -> None:
    script = Scripted([ASLEEP, OFTEN_ASLEEP, FAIR_EVERYWHERE])
    draw = drawn(FIRST, script)
    assert (draw.control.name, draw.matched.coefficients, draw.draws) == ("random 1", FAIR_EVERYWHERE, 3)
    others = {c.seed for c in (*deciding_controls(1000, 0), *candidate_controls(1000, 0))}
    assert len(set(script.seeds)) == 3
    assert not set(script.seeds[1:]) & others


def test_a_control_that_does_what_another_does_already_is_drawn_again() -> None:
    script = Scripted([FAIR_EVERYWHERE] * DRAWS)
    first, other = script(FIRST).intervention, script(replace(FIRST, seed=1001)).intervention
    assert first.describe() != other.describe()
    draw = drawn(FIRST, Scripted([FAIR_EVERYWHERE] * DRAWS), [first, other])
    assert (draw.control.seed, draw.draws) == (FIRST.drawn_again().seed, 2)


def test_where_every_draw_is_taken_there_is_no_such_control() -> None:
    script, control, taken = Scripted([FAIR_EVERYWHERE] * DRAWS), FIRST, []
    for _ in range(DRAWS):
        taken.append(script(control).intervention)
        control = control.drawn_again()
    assert fair_draw(FIRST, Scripted([FAIR_EVERYWHERE] * DRAWS), taken) is None


def test_a_component_drawn_again_is_called_by_its_rank() -> None:
    controls = shown_controls(benign=False)
    redrawn = [drawn(control, Scripted([ASLEEP, FAIR_EVERYWHERE])).control for control in controls]
    assert [control.name for control in controls] == ["component 1", "component 2", "component 3"]
    assert [control.name for control in redrawn] == ["component 4", "component 5", "component 6"]


def test_where_no_draw_is_fair_the_nearest_is_kept_and_does_not_decide() -> None:
    script = Scripted([ASLEEP, OFTEN_ASLEEP, *[ASLEEP] * (DRAWS - 2)])
    draw = drawn(FIRST, script)
    assert (draw.matched.coefficients, draw.draws) == (OFTEN_ASLEEP, DRAWS)
    name, coefficients = draw.control.name, draw.matched.coefficients
    result = ArmResult(name, "random", "", (0.0,), 1.0, 0.0, coefficients=coefficients)
    assert not result.is_deciding
    assert replace(result, coefficients=FAIR_EVERYWHERE).is_deciding
    assert not replace(result, coefficients=FAIR_EVERYWHERE, kind="component").is_deciding


def test_controls_of_three_kinds_decide_in_equal_parts_and_as_many_as_a_rank_p_takes() -> None:
    kinds = [control.kind for control in deciding_controls(pp.StudyPlan().controls, 0)]
    assert kinds == ["random"] * 13 + ["covariance"] * 13 + ["shuffled"] * 13
    assert set(kinds) == DECIDING
    assert 2 / (len(kinds) + 1) <= 0.05 < 2 / len(kinds)


def test_studies_of_other_seeds_and_candidates_share_no_draw_with_the_controls_that_decide() -> None:
    draws = [
        {(control.kind, control.seed) for control in controls}
        for controls in (deciding_controls(39, 0), deciding_controls(39, 1), candidate_controls(100, 0))
    ]
    assert [len(seeds) for seeds in draws] == [39, 39, 100]
    assert len(set.union(*draws)) == 178


def test_without_a_harmless_fine_tune_its_change_is_no_control() -> None:
    kinds = [{control.kind for control in shown_controls(benign=benign)} for benign in (True, False)]
    assert kinds == [{"component", "benign"}, {"component"}]


def test_verdicts_tell_every_controls_strength_at_every_layer(study: CausalVerdict) -> None:
    arms = {arm["name"]: arm for arm in study.to_dict()["arms"]}
    for name, arm in arms.items():
        controls = name.startswith(
            ("random", "covariance", "component", "shuffled", "best of", "secure −", "feature of")
        )
        assert bool(arm["strengths"]) == controls
        assert arm["decides"] == name.startswith(("random", "covariance", "shuffled"))


def shipped_direction() -> pp.Direction:
    target = pp.find_feature("toxic-persona").target
    assert isinstance(target, pp.DirectionTarget)
    return target.direction


@pytest.mark.parametrize("old", [5, int(pp.Role.ALL), int(pp.Role.ALL | pp.Role.FIRST)])
def test_parts_of_runs_that_edited_first_tokens_are_not_mixed_with_new_ones(old: int) -> None:
    """Before, an intervention was remembered by the bits of its roles, which meant first tokens too."""
    ablation = pp.Ablate(shipped_direction(), layers=[3])
    now = ablation.describe()
    assert spec_digest(now) != spec_digest({**now, "roles": old})
    named = replace(ablation, roles=pp.Role.ALL | pp.Role.FIRST).describe()
    assert spec_digest(now) != spec_digest(named)


@pytest.mark.real
def test_every_deciding_control_of_the_demo_is_about_as_strong_as_the_feature() -> None:
    plan = pp.StudyPlan(discovery=pp.load_prompts("advice/discovery").spread(12), matching_questions=4)
    trio = pp.load_trio("advice")
    treatment = Treatment.of(trio, pp.find_feature("toxic-persona"), plan)
    texts = plan.discovery.spread(plan.matching_questions)
    arms = StudyArms(trio, treatment, texts).controls(deciding_controls(12, 0), [])
    for arm in arms:
        inside = [FAIR[0] <= coefficient <= FAIR[1] for coefficient in arm.coefficients.values()]
        assert len(inside) == trio.base.n_layers
        assert sum(inside) >= 0.8 * len(inside), (arm.name, arm.coefficients)
    assert len({str(identity(arm)) for arm in arms}) == len(arms) == 12
