"""Gathers what is known of a study that no driver holds: ledger, events, MLflow, checkpoints, champion.

Changes nothing. Must not judge: that is what `invariants` is for.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hpo.answering import read_about
from hpo.config import StudyConfig
from hpo.encoded import Array, Encoded
from hpo.errors import HpoError, ModelError, ServiceError
from hpo.invariants.facts import Champion, Facts, Reevaluated, Run, Weights
from hpo.ledger import CHECKPOINTS
from hpo.ledger.past import PastStudy, read_study
from hpo.ledger.storage import LEDGER, damage
from hpo.mlflow_client import sqlite_file, store_option
from hpo.records import (
    AnyEvent,
    TrialConfirmed,
    TrialFinished,
    TrialRecord,
    TrialReported,
    TrialStarted,
)
from hpo.records.mirrored import Mirrored
from hpo.registry import Registry
from hpo.registry.files import sha256_of_weights
from hpo.registry.version import SHA256
from hpo.runners.machine import cores
from hpo.study.finish import read_outcome
from hpo.study.folder import ADAPTED, temporaries
from hpo.study.population import FOLDER as POPULATION
from hpo.study.prepare import CACHE, encoded_key
from hpo.study.trials import has_weights, ranked, strangers, surplus
from hpo.tracking.link import read_link
from hpo.tracking.reading import key, params_of, read_mirror
from hpo.tracking.spool import read_log
from hpo.training import checkpoint, device, inference, pretrained
from hpo.training.bookmarks import FOLDER as RUNNING
from hpo.training.bookmarks import Bookmarks

EARLIER_TOKENS = 8_192
"""Padded tokens of a batch in earlier evaluations."""

OTHER_DEVICE = 0.01
"""By how much a score may differ where the trial trained on a GPU, whose sums come in another order each time."""


@dataclass(frozen=True)
class Study:
    """A study's folder, its configuration as it was saved, and where MLflow is now. data_digest: of its rows."""

    folder: Path
    config: StudyConfig
    data_digest: str = ""

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS


def examine(study: Study, *, reevaluate: bool = True) -> Facts:
    """Everything that can be known now; what can't be read is said in the facts."""
    config, folder = study.config, study.folder
    wrong = None if config.ledger else damage(folder / LEDGER)
    past = PastStudy(config.study, config.mode)
    if wrong is None:
        try:
            past = read_study(folder, config.study, config.mode, config.ledger)
        except ServiceError as error:
            wrong = str(error)
    trials = _placed([*past.trials, *past.running], study.checkpoints)
    runs = _placed(past.runs, study.checkpoints)
    log = read_log(folder)
    mirror, mirror_wrong = _mirror(study)
    best_first = tuple(ranked(trials, config.mode, config.limits))
    weights = {own.name: _weights(own, config.metric) for own in _folders(study.checkpoints)}
    again, not_again = _again(study, best_first, runs, weights) if reevaluate else ((), None)
    champion, champion_wrong = _champion(study)
    unfinished = None if wrong else [own.name for own in (*past.running, *past.running_runs)]
    return Facts(
        study=config.study,
        metric=config.metric,
        mode=config.mode,
        trials=tuple(sorted(trials, key=lambda own: own.number)),
        runs=tuple(runs),
        running_runs=past.running_runs,
        budget=config.budget.trials,
        is_bounded_otherwise=bool(config.budget.hours or config.budget.epochs or config.budget.target is not None),
        assignments=config.space.size,
        has_changed=past.has_changed,
        keep=config.checkpoints.keep,
        keep_bytes=config.checkpoints.max_bytes,
        seeds=config.confirm.seeds if config.confirm else None,
        ledger_wrong=wrong,
        events=log.events,
        events_wrong=log.wrong,
        torn=log.torn,
        waiting=log.waiting,
        mirror=mirror,
        mirror_wrong=mirror_wrong,
        params=_told_params(log.events),
        metrics=_told_metrics(log.events),
        best_first=best_first,
        weights=weights,
        strangers=tuple(_strangers(study, [*trials, *runs])) if wrong is None else (),
        surplus=tuple(own.name for own in superfluous(study, best_first, runs)),
        temporary=tuple(str(own.relative_to(folder)) for own in temporary(study, unfinished)),
        again=again,
        not_again=not_again,
        champion=champion,
        champion_wrong=champion_wrong,
    )


def temporary(study: Study, unfinished: Iterable[str] | None) -> list[Path]:
    """What was begun under a temporary name, wherever a study writes, and bookmarks of trials that have ended.
    unfinished: names of those that have not; None where nobody knows."""
    bookmarks = Bookmarks(study.folder / RUNNING)
    litter = bookmarks.litter(unfinished) if unfinished is not None else []
    places = (study.folder, study.checkpoints, study.folder / POPULATION, study.folder / ADAPTED)
    return [*temporaries(*places), *litter]


def superfluous(study: Study, best_first: Iterable[TrialRecord], runs: Iterable[TrialRecord]) -> Iterator[Path]:
    """Checkpoints beyond those that are to be kept: of the search, and of seed runs that are not their trial's best."""
    keep = study.config.checkpoints
    yield from surplus(list(best_first), keep.keep, keep.max_bytes, set())
    best = {own.number: own for own in reversed(ranked(runs, study.config.mode))}
    for own in runs:
        if own is not best.get(own.number) and has_weights(own) and own.checkpoint is not None:
            kept = best.get(own.number)
            if kept is None or kept.checkpoint != own.checkpoint:
                yield own.checkpoint


def _strangers(study: Study, records: Iterable[TrialRecord]) -> Iterator[str]:
    yield from (own.name for own in strangers(study.checkpoints, records) if not own.name.startswith("."))


def _placed(records: Iterable[TrialRecord], checkpoints: Path) -> list[TrialRecord]:
    """With their checkpoints where they lie now: the ledger knows names only."""
    return [
        own.model_copy(update={"checkpoint": checkpoints / own.checkpoint.name}) if own.checkpoint else own
        for own in records
    ]


def _folders(checkpoints: Path) -> list[Path]:
    return sorted(own for own in checkpoints.glob("*") if own.is_dir() and not own.name.startswith("."))


def _weights(folder: Path, metric: str) -> Weights:
    size = sum(file.stat().st_size for file in folder.iterdir())
    try:
        return Weights(size, value=checkpoint.verify(folder).metrics.get(metric))
    except ModelError as error:
        return Weights(size, wrong=str(error))


def _mirror(study: Study) -> tuple[Mirrored | None, str | None]:
    link = read_link(study.folder)
    if link is None:
        return None, "MLflow was never told of this study"
    try:
        return read_mirror(study.config.tracking.uri, link, study.config.metric), None
    except ServiceError as error:
        return None, str(error)


def _told_params(events: Iterable[AnyEvent]) -> Mapping[Run, Mapping[str, str]]:
    """The first that were told: MLflow's never change."""
    found: defaultdict[Run, dict[str, str]] = defaultdict(dict)
    for event in events:
        if isinstance(event, TrialStarted):
            own = found[event.number, event.replicate]
            own.update({name: text for name, text in params_of(event.params).items() if name not in own})
    return found


def _told_metrics(events: Iterable[AnyEvent]) -> Mapping[Run, Mapping[str, Mapping[int, float]]]:
    """Of the reports, each at its step. Without what is told again where it changes: the means over fresh seeds, and
    the totals of a seed run that was made twice."""
    found: defaultdict[Run, defaultdict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    ends: defaultdict[Run, list[TrialFinished]] = defaultdict(list)
    again: set[str] = set()
    for event in events:
        if isinstance(event, TrialReported):
            for name, value in event.metrics.items():
                found[event.number, event.replicate][key(name)][event.step] = value
        elif isinstance(event, TrialFinished):
            ends[event.number, event.replicate].append(event)
        elif isinstance(event, TrialConfirmed):
            again |= event.confirmed.figures(event.mode).keys()
    for run, told in ends.items():
        for name, value in told[-1].metrics.items() if len(told) == 1 else ():
            if name not in again:
                found[run][key(name)][0] = value
    return found


def _again(
    study: Study, best_first: Iterable[TrialRecord], runs: Iterable[TrialRecord], weights: Mapping[str, Weights]
) -> tuple[tuple[Reevaluated, ...], str | None]:
    """The best trial that has weights, and the best run over fresh seeds, on the validation rows."""
    config = study.config
    asked = [next(filter(has_weights, records), None) for records in (best_first, ranked(runs, config.mode))]
    sound = [own for own in asked if own and own.checkpoint and not weights[own.checkpoint.name].wrong]
    if not sound:
        return (), "no trial has weights that can be trusted"
    if config.metric not in config.task.metric_names:
        return (), f"{config.metric} is a cost, which no weights have by themselves"
    found = []
    for own in sound:
        assert own.checkpoint is not None
        assert own.value is not None
        if (about := read_about(own.checkpoint)) is None:
            return (), f"{own.checkpoint.name} is of an earlier release and does not say what its labels are"
        labels = tuple(about["labels"])
        tokenizer = pretrained.load_tokenizer(own.checkpoint)
        place = rows_of(study, encoded_key(study.data_digest, tokenizer, config.task, labels))
        if place is None:
            return (), f"the encoded rows are not in {study.folder.parent / CACHE} any more; --resume makes them again"
        rows = Encoded.load(place)
        score = partial(_score, study, own.checkpoint, rows, labels, tokenizer.pad_id, bf16=own.params.get("bf16"))
        value = score()
        if value != own.value:  # another release made other batches, and sums come out in another order
            earlier = score(tokens=EARLIER_TOKENS)
            value = earlier if earlier == own.value else value
        there = device.pick_device(config.resources.at_hand).type == "cuda"
        was = config.resources.gpus or device.GPU_MEMORY in own.metrics
        tolerance = OTHER_DEVICE if there or was else 0.0
        found.append(Reevaluated(own.checkpoint.name, own.value, value, tolerance))
    return tuple(found), None


def rows_of(study: Study, wanted: Mapping[str, str]) -> Path | None:
    """The file of the encoded validation rows, if the cache still has it."""
    from hpo.data.cache import home_of

    place = home_of(study.folder.parent / CACHE / "encoded", wanted) / "search" / "validation.arrow"
    return place if place.is_file() else None


def _score(
    study: Study,
    folder: Path,
    rows: Encoded,
    labels: tuple[str, ...],
    pad_id: int,
    *,
    bf16: object,
    tokens: int | None = None,
) -> float:
    """As the training loop scores: the same batches, the same precision."""
    config, task = study.config, study.config.task

    def collate(encoded: Encoded, order: Array) -> dict[str, Array]:
        return task.collate(encoded, order, pad_id)

    where = device.pick_device(config.resources.at_hand)
    device.cap_threads(min(config.resources.cpus, cores()))
    model = inference.load(folder, task.head, where)
    logits = inference.logits(model, rows, collate, where, bf16=bf16 if isinstance(bf16, bool) else None, tokens=tokens)
    return task.compute_metrics(logits, rows, labels)[config.metric]


def _champion(study: Study) -> tuple[Champion | None, str | None]:
    gate = study.config.promotion
    if gate is None:
        return None, None
    uri = study.config.tracking.uri
    database = sqlite_file(uri)
    if database is not None and not database.is_file():  # asking would make it
        return None, f"there is no {database}"
    registry, store = Registry(uri), store_option(uri)
    try:
        past = registry.past(gate.model)
    except ModelError:
        return Champion(gate.model, is_owed=_says_promoted(study), store=store), None
    except ServiceError as error:
        return None, str(error)
    chain = past.chain
    number = chain.champion
    own = {version.run_id for version in past.versions.values()}
    link = read_link(study.folder)
    is_owed = _says_promoted(study) and (link is None or link.parent_run_id not in own)
    if number is None:
        return Champion(gate.model, is_owed=is_owed, store=store), None
    links = list(chain.links)
    gaps = [
        later.number for earlier, later in pairwise(links) if later.act == "gate" and later.against != earlier.number
    ]
    wrong = None
    try:
        with TemporaryDirectory(prefix="hpo-champion-") as folder:
            files = registry.fetch(past.versions[number], Path(folder))
            registered = past.versions[number].tags.get(SHA256)
            if registered is not None and sha256_of_weights(files) != registered:
                wrong = f"version {number}: its weights are not those that were registered"
            else:
                inference.load(files, study.config.task.head, device.pick_device(0.0))
    except HpoError as error:
        wrong = f"version {number}: {error}"
    return Champion(gate.model, number, chain.alias, chain.is_at_rest, wrong, tuple(gaps), is_owed, store), None


def _says_promoted(study: Study) -> bool:
    outcome = read_outcome(study.folder)
    return outcome is not None and outcome.decision is not None and outcome.decision.verdict == "promote"
