"""Whether a trial of before, of another space or of another study, is one of this space. Pure."""

import math

from hpo.space import Params, Scalar, SearchSpace


def fit(params: Params, space: SearchSpace, defaults: Params) -> dict[str, Scalar] | str:
    """The assignment of `space` that trains as `params` did; else what keeps it out, in words.

    defaults: what a trial trains with where its assignment is silent, as far as that is known.
    """
    whole = {**defaults, **params}
    fitted = space.assign(lambda name, own: own.nearest(whole[name]) if name in whole else math.nan)
    for name in fitted:
        if name not in whole:
            return f"{name} was not set"
        if not space.parameters[name].contains(whole[name]):
            return f"{name} is outside of the space"
    for name in sorted(params.keys() - fitted.keys()):
        if params[name] != defaults.get(name):
            return f"{name} is not in the space"
    broken = next((rule.text for rule in space.constraints if not rule.holds(fitted)), None)
    return fitted if broken is None else f"{broken} is broken"
