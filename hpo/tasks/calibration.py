"""Whether probabilities can be believed, and the one number that mends them: temperature scaling (Guo et al. 2017,
arXiv:1706.04599, section 4.2). Must not know tasks and models.

Outputs are (rows, classes) logits, truth is (rows,) class ids.
"""

import math

import numpy as np

from hpo.encoded import Array
from hpo.records import Bin, Reliability
from hpo.tasks.classes import BINS, calibration_error
from hpo.tasks.reading import softmax

COLDEST, HOTTEST = 0.05, 20.0
"""A temperature beyond these has no meaning."""


def fit_temperature(outputs: Array, truth: Array) -> float:
    """By which the logits are divided so that the negative log-likelihood of the truth is least.

    1.0 where every row is right: the likelihood then only rises as the temperature falls, and says nothing of rows that
    will be wrong. The answer of a row stays, whatever the temperature.
    """
    from scipy.optimize import minimize_scalar

    if (outputs.argmax(axis=-1) == truth).all():
        return 1.0
    whole = outputs.astype(np.float64)
    found = minimize_scalar(
        lambda log: log_loss(whole / math.exp(log), truth),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(math.exp(found.x))


def log_loss(outputs: Array, truth: Array) -> float:
    """The mean negative log-likelihood, in nats."""
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -float(logs[np.arange(len(truth)), truth].mean())


def bins(shares: Array, truth: Array) -> tuple[Bin, ...]:
    """Those of BINS equal ones that have rows. shares: (rows, classes) probabilities."""
    sure, right = shares.max(axis=-1), shares.argmax(axis=-1) == truth
    place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    return tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            rows=int(own.sum()),
            sure=float(sure[own].mean()),
            right=float(right[own].mean()),
        )
        for number in range(BINS)
        if (own := place == number).any()
    )


def reliability(outputs: Array, truth: Array, validation: tuple[Array, Array]) -> Reliability:
    """Of test rows, before and after the temperature that fits `validation`, (outputs, truth) of other rows."""
    temperature = fit_temperature(*validation)
    before, after = softmax(outputs), softmax(outputs / temperature)
    return Reliability(
        temperature=temperature,
        fitted_on=len(validation[1]),
        error=calibration_error(before, truth),
        error_after=calibration_error(after, truth),
        bins=bins(before, truth),
        bins_after=bins(after, truth),
    )
