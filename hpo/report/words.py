"""How numbers, params and durations are written for people. Pure text: knows no screen and no file."""

from collections.abc import Iterable, Mapping, Sequence

from hpo.objectives import OWN_UNIT
from hpo.records import Confirmed
from hpo.space import Scalar

SHORT_NAMES = {
    "learning_rate": "lr",
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accum",
    "num_train_epochs": "epochs",
    "warmup_ratio": "warmup",
    "lr_scheduler_type": "schedule",
    "weight_decay": "decay",
    "adam_beta1": "beta1",
    "adam_beta2": "beta2",
    "adam_epsilon": "eps",
    "max_grad_norm": "clip",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attn drop",
    "classifier_dropout": "head drop",
    "layerwise_lr_decay": "llrd",
    "frozen_layers": "frozen",
    "focal_gamma": "gamma",
    "label_smoothing_factor": "smooth",
    "mlm_probability": "masked",
}
STAGE = "adapt_"
"""Before the names of what the stage `adapt` trains with."""

REASON = 160
"""Characters of a reason; the whole is in the ledger and on the trial's page."""


def short_name(name: str) -> str:
    stage, own = ("adapt ", name.removeprefix(STAGE)) if name.startswith(STAGE) else ("", name)
    return stage + SHORT_NAMES.get(own, own)


def short_value(value: Scalar, digits: int = 2) -> str:
    """Few significant digits: 3.1e-05, 0.12, 16, linear."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.{max(digits, 4) if abs(value) >= 10 else digits}g}"


def short_params(params: Mapping[str, Scalar], names: Iterable[str]) -> str:
    """`lr 3.1e-05  batch 16`: those of `names` that this trial has."""
    known = {name: params[name] for name in names if name in params}
    if "model" in known:
        known["model"] = str(known["model"]).rpartition("/")[2]
    return "  ".join(f"{short_name(name)} {short_value(value)}" for name, value in known.items())


def opened_again(winners: Sequence[str]) -> str | None:
    """What it means that test rows were opened for all of these; None where they were opened for one."""
    if len(winners) < 2:
        return None
    return (
        f"The test rows were opened {len(winners)} times, for {', '.join(winners)}: who goes on after a "
        "look at them chooses by them, too, so the last score may be a little too good."
    )


def metric_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def gain(metric: str, better: float, worse: float) -> str:
    """`+2.2 points` of 0.01; for a metric with a unit of its own, the plain difference."""
    if metric in OWN_UNIT:
        return f"{better - worse:+.4f}"
    return f"{100 * (better - worse):+.1f} points"


def gain_spread(metric: str, low: float | None, high: float | None, confidence: float) -> str:
    """` (95 %: -0.3 to +4.1)`, in the unit of `gain`; nothing where there is no interval, or one of no width."""
    if low is None or high is None or low == high:
        return ""
    if metric in OWN_UNIT:
        return f" ({100 * confidence:g} %: {low:+.4f} to {high:+.4f})"
    return f" ({100 * confidence:g} %: {100 * low:+.1f} to {100 * high:+.1f})"


def too_good(metric: str, optimism: float) -> str:
    """`1.4 points too good`, or too bad where it was below what came of it."""
    size = f"{abs(optimism):.4f}" if metric in OWN_UNIT else f"{100 * abs(optimism):.1f} points"
    return f"{size} too {'good' if optimism >= 0 else 'bad'}"


def clock(seconds: float) -> str:
    """`03:07`, from an hour on `1:03:07`."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def duration(seconds: float) -> str:
    """`48 s`, `3 min 12 s`, `2 h 5 min`."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str) -> str:
    """`1 trial`, `4,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def spread(one: Confirmed) -> str:
    """` (95 %: 0.7390 to 0.7570)`; nothing where one seed makes no interval."""
    if one.is_alike:
        return " (all seeds alike)"
    return f" ({100 * one.confidence:g} %: {interval(one)})" if one.low is not None else ""


def interval(one: Confirmed, form: str = ".4f") -> str:
    """`0.7390 to 0.7570`, or that there is none."""
    if one.is_alike:
        return "all seeds alike"
    return "" if one.low is None or one.high is None else f"{one.low:{form}} to {one.high:{form}}"


def best_of(means: int) -> str:
    """`best of 4 means`, where one was chosen; `mean` where there was no other."""
    return f"best of {means} means" if means > 1 else "mean"


def leaders(confirmed: int, defaults: int) -> str:
    """`2 leaders and the default`. confirmed: of all. defaults: whether it is among them, 0 or 1: nobody chose it by
    its score, so it is no leader."""
    if confirmed == defaults:
        return "the default"
    return count(confirmed - defaults, "leader") + (" and the default" if defaults else "")


def brief(reason: str) -> str:
    """One line of it: the last, which in a traceback is the error itself."""
    line = (reason.strip().splitlines() or [""])[-1].strip()
    return line if len(line) <= REASON else f"{line[: REASON - 3]}..."
