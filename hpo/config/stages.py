"""Checks of the stage before a study's own task: its hyperparameters in the space, and when they are there."""

from collections.abc import Iterator

from hpo.config.parameters import Fault
from hpo.config.schema import StagesConfig
from hpo.space import Choice, Fixed, FloatRange, SearchSpace
from hpo.training.hyperparameters import ADAPT


def check_stage(space: SearchSpace, stages: StagesConfig | None) -> Iterator[Fault]:
    """Every fault of `adapt` and `adapt_*`."""
    own = [name for name in space.parameters if name.startswith(ADAPT)]
    if stages is None:
        for name in (*own, *({"adapt"} & {*space.parameters})):
            yield ("space", name), "there is no such stage in this study; add stages: {adapt: ...}, or remove it"
        return
    switch = space.parameters.get("adapt")
    can_be_off = switch is not None and switch.contains(False)
    for name in own:
        parameter = space.parameters[name]
        if name.removeprefix(ADAPT) in stages.adapt.task.inert:
            yield ("space", name), f"has no meaning for {stages.adapt.task.noun}; remove it"
        if isinstance(parameter, FloatRange) and parameter.step is None:
            what = "every trial would adapt a model of its own, where those with the same values share one"
            yield ("space", name), f"{what}; write some values as a list"
        is_bound = any(one.parameter == "adapt" and {*one.values} == {True} for one in parameter.when)
        if can_be_off and not is_bound and not isinstance(parameter, Fixed):
            yield ("space", name), "adapt can be false, and nothing is adapted then; add when: {adapt: true}"
    if isinstance(switch, Choice | Fixed) and not switch.contains(True):
        yield ("space", "adapt"), "it is never true, so the stage is never used; add true, or remove the stage"
