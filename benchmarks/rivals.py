"""What people write instead of this project, as their documentation shows it: whole searches through `Trainer`.

    hf-optuna   Trainer.hyperparameter_search with the backend optuna: TPE and MedianPruner
    hf-ray      the same with the backend ray: random proposals, trained in full; tuned, under ASHA
    ray         a function trainable around Trainer under ASHA, random proposals, as in Ray's own example
    grid        the 18 points of the BERT paper, one after the other

`tuned` gives them bfloat16, batches of like lengths, the fused AdamW, large evaluation batches and, on Ray, warm
processes. As they come, rows are padded to the batch's longest; `ray` pads to the maximum, as its example does. All
draw from the study's own space, train on its own encoded rows from the same weights, and note every evaluation in a
file. Must not know what is made of the notes. Needs accelerate.
"""

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_arms import Huggingface, _pad, _Rows
from hpo.config.points import first_points
from hpo.encoded import Encoded
from hpo.space import Choice, FloatRange, IntRange, Params, SearchSpace

PADDED = 128
"""Wordpieces to which Ray's example pads each row."""

METRIC = "eval_accuracy"


@dataclass(frozen=True)
class Rival:
    """A search to run. rows: folder of train.arrow and validation.arrow. notes: the file for every evaluation.

    seconds: after which no trial begins.
    """

    space: SearchSpace
    weights: Path
    rows: Path
    test: Path
    notes: Path
    folder: Path
    seed: int
    trials: int
    seconds: float
    tuned: bool
    gpu: bool
    padded: int = 0

    def trainer(self, params: Params, trial: str, *, on_evaluation: Any = None) -> Any:
        """As for one trial; `trial` names it in the notes."""
        return _trainer(self, lambda _: params, trial, on_evaluation, **arguments_of(params))


def model_of(rival: Rival, params: Params | None) -> Any:
    """The classifier, its dropout as `params` have it."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(rival.weights, num_labels=2)
    if params and "hidden_dropout_prob" in params:
        config.hidden_dropout_prob = params["hidden_dropout_prob"]
    return AutoModelForSequenceClassification.from_pretrained(rival.weights, config=config)


def arguments_of(params: Params) -> dict[str, Any]:
    """Those of the space that TrainingArguments takes; `warmup_ratio` has become a part of `warmup_steps`."""
    return _renamed({name: value for name, value in params.items() if name != "hidden_dropout_prob"})


def _renamed(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"warmup_steps" if name == "warmup_ratio" else name: value for name, value in params.items()}


def _trainer(
    rival: Rival, params_of: Callable[[Any], Params | None], name: str, on_evaluation: Any, **changes: Any
) -> Any:
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(rival.seed)
    usual = {
        "output_dir": str(rival.folder / f"trainer-{name}"),
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": rival.seed,
        "use_cpu": not rival.gpu,
        "logging_strategy": "no",
    }
    tuned = {
        **Huggingface.TUNED,
        "dataloader_num_workers": 0,
        "bf16": True,
        "train_sampling_strategy": "group_by_length",
    }
    return Trainer(
        args=TrainingArguments(**{**usual, **(tuned if rival.tuned else {}), **changes}),
        model_init=lambda trial: model_of(rival, params_of(trial)),
        train_dataset=_Rows(Encoded.load(rival.rows / "train.arrow")),
        eval_dataset=_Rows(Encoded.load(rival.rows / "validation.arrow")),
        data_collator=partial(_pad, to=rival.padded),
        compute_metrics=_accuracy,
        callbacks=[_noting(rival.notes, name, on_evaluation)],
    )


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def _noting(file: Path, name: str, then: Any) -> Any:
    from transformers import TrainerCallback

    class Noting(TrainerCallback):  # type: ignore[misc]
        """One line an evaluation. `then` gets the metrics."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **rest: Any) -> None:
            trial = getattr(state, "trial_name", None) or name
            note = {
                "time": time.time(),
                "trial": f"{trial}-{os.getpid()}",
                "epoch": state.epoch,
                "epochs": args.num_train_epochs,
                "value": metrics[METRIC],
            }
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(note) + "\n")
            if then is not None:
                then(metrics, state)

    return Noting()


def hf_optuna(rival: Rival) -> Params:
    """One after the other, in this process. Returns the best trial's values."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def space_of(trial: Any) -> Params:
        from hpo.ledger.entries import suggest

        return rival.space.assign(lambda name, own: suggest(trial, name, own))

    drawn: dict[int, Params] = {}

    def asked(trial: Any) -> Params | None:
        """Trainer asks for a trial's values when it builds the model, and again for its arguments."""
        if trial is None:
            return None
        if trial.number not in drawn:
            drawn[trial.number] = space_of(trial)
        return drawn[trial.number]

    trainer = _trainer(rival, asked, "hf", None)
    best = trainer.hyperparameter_search(
        direction="maximize",
        backend="optuna",
        hp_space=lambda trial: arguments_of(asked(trial) or {}),
        compute_objective=lambda metrics: metrics[METRIC],
        n_trials=rival.trials,
        timeout=rival.seconds,
        sampler=optuna.samplers.TPESampler(seed=rival.seed),
    )
    return drawn[int(best.run_id)]


def hf_ray(rival: Rival) -> Params:
    """A process a trial, as many beside each other as there are cores or devices; tuned, ASHA stops some."""
    import ray
    from ray import tune

    trainer = _trainer(rival, lambda drawn: drawn, "hf", None)
    drawn_from = _as_tune(rival.space)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    best = trainer.hyperparameter_search(
        direction="maximize",
        backend="ray",
        hp_space=lambda _: _renamed(drawn_from),
        compute_objective=lambda metrics: metrics[METRIC],
        n_trials=rival.trials,
        time_budget_s=rival.seconds,
        storage_path=str(rival.folder / "ray"),
        progress_reporter=tune.CLIReporter(max_report_frequency=3_600),
        verbose=0,
        **({"scheduler": _asha(rival, "objective"), "reuse_actors": True} if rival.tuned else {}),
    )
    ray.shutdown()
    return {"warmup_ratio" if name == "warmup_steps" else name: value for name, value in best.hyperparameters.items()}


def ray_tune(rival: Rival) -> Params:
    """A trial a device, or a core where there is none."""
    import ray
    from ray import tune

    def train(params: Params) -> None:
        trainer = rival.trainer(
            params,
            tune.get_context().get_trial_id(),
            on_evaluation=lambda metrics, state: tune.report({METRIC: metrics[METRIC], "epoch": state.epoch}),
        )
        trainer.train()

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found = tune.Tuner(
        tune.with_resources(train, {"cpu": 1, "gpu": 1 if rival.gpu else 0}),
        param_space=_as_tune(rival.space),
        tune_config=tune.TuneConfig(
            scheduler=_asha(rival, METRIC),
            num_samples=rival.trials,
            time_budget_s=rival.seconds,
            reuse_actors=rival.tuned,
        ),
        run_config=tune.RunConfig(storage_path=str(rival.folder / "ray"), verbose=0),
    ).fit()
    ray.shutdown()
    best: Params = found.get_best_result(METRIC, "max", scope="all").config
    return best


def grid(rival: Rival) -> Params:
    """All points in the seed's order, each to its end."""
    points = [params for _, params in first_points(["bert-paper-grid"], rival.space)]
    random.Random(rival.seed).shuffle(points)
    began, values = time.monotonic(), []
    for number, params in enumerate(points):
        if time.monotonic() - began > rival.seconds:
            break
        values.append((train_alone(rival, params, f"grid-{number}")[0], number))
    return points[max(values)[1]]


def train_alone(rival: Rival, params: Params, name: str) -> tuple[float, Any]:
    """One training with these values: its last accuracy, and the trainer."""
    trainer = rival.trainer(params, name)
    trainer.train()
    values = [entry[METRIC] for entry in trainer.state.log_history if METRIC in entry]
    return (values[-1] if values else float(trainer.evaluate()[METRIC])), trainer


def test_score(rival: Rival, params: Params) -> float:
    """As people do: train once more with the best values, then ask that model on the test rows."""
    _, trainer = train_alone(rival, params, "best")
    return float(trainer.predict(_Rows(Encoded.load(rival.test))).metrics["test_accuracy"])


def _asha(rival: Rival, metric: str) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(metric=metric, mode="max", max_t=int(_most_epochs(rival.space)), grace_period=1)


def _most_epochs(space: SearchSpace) -> float:
    match space.parameters["num_train_epochs"]:
        case Choice(values):
            return max(float(value) for value in values)
        case IntRange(high=high) | FloatRange(high=high):
            return float(high)
        case own:
            raise ValueError(f"num_train_epochs is {own}; the arms search it")


def _as_tune(space: SearchSpace) -> dict[str, Any]:
    from ray import tune

    found: dict[str, Any] = {}
    for name, own in space.parameters.items():
        match own:
            case Choice(values):
                found[name] = tune.choice(list(values))
            case IntRange(low, high):
                found[name] = tune.randint(low, high + 1)
            case FloatRange(low, high, log=True):
                found[name] = tune.loguniform(low, high)
            case FloatRange(low, high):
                found[name] = tune.uniform(low, high)
    return found


SEARCHES: Mapping[str, Callable[[Rival], Params]] = {
    "hf-optuna": hf_optuna,
    "hf-ray": hf_ray,
    "ray": ray_tune,
    "grid": grid,
}
