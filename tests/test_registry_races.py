"""Promoters that get in each other's way, at a real MLflow: every order of events has to end with the best as champion.

A promoter here is what `Finish` is, without the training: it looks who is champion, compares one number, registers, and
judges again where it lost. Numbers are compared like tests are, so whoever replaces another must have met it.
"""

import functools
import itertools
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import BAD_REQUEST, MlflowException
from test_registry import tracking_server, uri

from hpo.mlflow_client import open_client
from hpo.registry import Registry
from hpo.registry.chain import Chain
from hpo.registry.succession import AGAINST, Succession

__all__ = ["uri"]

Step = Callable[[str], None]
names = (f"model-{number}" for number in itertools.count())


class Killed(BaseException):
    """The promoter's process is gone."""


class Paced:
    """The real client, which comes by `step` before each of its calls: what happens there happens between two calls."""

    def __init__(self, client: MlflowClient, step: Step) -> None:
        self.real = client
        self._step = step

    def __getattr__(self, name: str) -> Any:
        own = getattr(self.real, name)

        def call(*given: Any, **named: Any) -> Any:
            self._step(name)
            return own(*given, **named)

        return call if callable(own) else own


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return open_client(uri)


@pytest.fixture
def name(client: MlflowClient) -> str:
    return new_name(client)


def new_name(client: MlflowClient) -> str:
    name = next(names)
    client.create_registered_model(name)
    run_of(client, name)
    return name


@functools.cache
def run_of(client: Any, name: str) -> Any:
    """A server takes no version whose files are not those of a run."""
    return client.create_run("0").info


def promote(client: Any, name: str, score: float) -> int:
    """Until it is champion, or has met a champion that is as good. Returns its last number."""
    succession, run = Succession(client, name), run_of(getattr(client, "real", client), name)
    while True:
        found = succession.settle()
        champion = found.chain.champion
        best = -1.0 if champion is None else float(found.versions[champion].tags["score"])
        made = succession.enter(
            verdict="promote" if score > best else "keep",
            seen=found.chain.seen,
            source=f"{run.artifact_uri}/model",
            run_id=run.run_id,
            model_id=None,
            description="",
            tags={"score": str(score)} | ({AGAINST: str(champion)} if champion else {}),
        )
        number = int(made.version)
        if score <= best or succession.settle().chain.lost_to(number) is None:
            return number


def at(place: int, act: Callable[[], None]) -> Step:
    """Does `act` at the call number `place`."""
    counted = itertools.count()

    def step(point: str) -> None:
        if next(counted) == place:
            act()

    return step


def die() -> None:
    raise Killed


def points(client: MlflowClient) -> list[str]:
    """All that an undisturbed promoter goes through against a champion."""
    name, passed = new_name(client), list[str]()
    promote(client, name, 0.1)
    promote(Paced(client, passed.append), name, 0.2)
    return passed


def check(client: MlflowClient, name: str) -> Chain:
    """The alias is the head; the head is the best that was ever promoted; each met the one before it."""
    found = Succession(client, name).read()
    chain, versions = found.chain, found.versions
    assert chain.head is not None
    assert chain.alias == chain.head.number
    assert [link.against for link in chain.links] == [None, *(link.number for link in chain.links[:-1])]
    assert float(versions[chain.head.number].tags["score"]) == max(
        float(own.tags["score"]) for own in versions.values()
    )
    return chain


def test_one_after_the_other_the_better_stays(client: MlflowClient, name: str) -> None:
    for score in (0.5, 0.3, 0.7, 0.6):
        promote(client, name, score)
    assert [link.number for link in check(client, name).links] == [1, 3]
    assert not [key for key in client.get_registered_model(name).tags if key.startswith("hpo.moving")]


@pytest.mark.parametrize("other", [0.4, 0.9], ids=["worse", "better"])
def test_whenever_another_one_comes_in_between_the_best_wins(client: MlflowClient, other: float) -> None:
    passed = points(client)
    assert {"create_model_version", "set_registered_model_alias"} <= set(passed)
    for place in range(len(passed)):
        name = new_name(client)
        promote(client, name, 0.1)
        promote(Paced(client, at(place, lambda name=name: promote(client, name, other))), name, 0.6)  # type: ignore[misc]
        check(client, name)


@pytest.mark.parametrize("later", [0.4, 0.9], ids=["worse", "better"])
def test_whenever_one_dies_the_next_one_finishes_for_it(client: MlflowClient, later: float) -> None:
    for place in range(len(points(client))):
        name = new_name(client)
        promote(client, name, 0.1)
        with pytest.raises(Killed):
            promote(Paced(client, at(place, die)), name, 0.6)
        promote(client, name, later)
        check(client, name)


def test_one_that_comes_late_and_dies_before_it_looks_again_is_mended(client: MlflowClient) -> None:
    """It is about to move the alias when a better one is promoted; it dies one, two, ... calls after that."""
    place = points(client).index("set_registered_model_alias")
    for further in range(1, 6):
        name, passed = new_name(client), list[str]()

        def step(point: str, name: str = name, passed: list[str] = passed, last: int = place + further) -> None:
            if len(passed) == place:
                promote(client, name, 0.9)
            if len(passed) == last:
                raise Killed
            passed.append(point)

        promote(client, name, 0.1)
        with pytest.raises(Killed):
            promote(Paced(client, step), name, 0.6)
        if further == 1:
            assert Succession(client, name).read().chain.alias == 2, "it did come late"
        promote(client, name, 0.5)
        check(client, name)


@pytest.mark.parametrize("write", ["set_model_version_tag", "set_registered_model_alias"])
def test_of_two_that_write_the_same_row_at_the_same_moment_the_one_refused_looks_again(
    client: MlflowClient, name: str, write: str
) -> None:
    refused: list[str] = []

    def step(point: str) -> None:
        if point == write and not refused:
            refused.append(point)
            Succession(client, name).settle()
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: a, b", BAD_REQUEST)

    assert promote(Paced(client, step), name, 0.6) == 1
    assert refused
    check(client, name)


class Turns:
    """Lets one thread at a time make one call, in an order that the seed gives."""

    def __init__(self, seed: int, threads: int) -> None:
        self._draw, self._left = random.Random(seed), threads
        self._waiting: list[int] = []
        self._turn: int | None = None
        self._changed = threading.Condition()

    def step(self, me: int) -> None:
        with self._changed:
            self._waiting.append(me)
            self._next()
            assert self._changed.wait_for(lambda: self._turn == me, timeout=300)
            self._turn = None

    def leave(self) -> None:
        with self._changed:
            self._left -= 1
            self._next()

    def _next(self) -> None:
        if self._waiting and len(self._waiting) == self._left:
            self._turn = self._waiting.pop(self._draw.randrange(len(self._waiting)))
            self._changed.notify_all()


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_of_single_calls_the_best_wins(client: MlflowClient, name: str, seed: int) -> None:
    scores = (0.3, 0.9, 0.6, 0.8)
    turns, failed = Turns(seed, len(scores)), list[BaseException]()

    def work(me: int) -> None:
        try:
            promote(Paced(client, lambda point: turns.step(me)), name, scores[me])
        except BaseException as error:
            failed.append(error)
        finally:
            turns.leave()

    run_all([threading.Thread(target=work, args=(me,)) for me in range(len(scores))])
    assert not failed, failed
    check(client, name)


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tracking_server(store_template, tmp_path_factory.mktemp("server")) as (address, _):
        yield address


@pytest.mark.service
def test_many_at_once_at_a_server(server: str) -> None:
    name, failed = new_name(open_client(server)), list[BaseException]()
    scores = [0.1 * number for number in range(1, 9)]
    random.Random(5).shuffle(scores)

    def work(score: float) -> None:
        try:
            promote(open_client(server), name, score)
        except BaseException as error:
            failed.append(error)

    run_all([threading.Thread(target=work, args=(score,)) for score in scores])
    assert not failed, failed
    chain = check(open_client(server), name)
    assert len(chain.entries) >= len(scores)


@pytest.mark.service
def test_a_process_killed_between_version_and_alias_leaves_a_champion_all_the_same(server: str) -> None:
    client = open_client(server)
    name = new_name(client)
    promote(client, name, 0.1)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, server, name], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Succession(client, name).read().chain.alias == 1
    standing = Registry(server).standing(name)
    assert standing.champion is not None
    assert (standing.champion.number, standing.champion.alias, standing.seen) == (2, "champion", 2)
    promote(client, name, 0.4)
    check(client, name)


KILLED = """
import os, signal, sys
from test_registry_races import Paced, open_client, promote
def step(point):
    if point == "set_registered_model_alias":
        os.kill(os.getpid(), signal.SIGKILL)
promote(Paced(open_client(sys.argv[1]), step), sys.argv[2], 0.6)
"""


def test_a_persons_choice_is_kept_and_is_what_the_next_one_has_to_beat(client: MlflowClient, name: str) -> None:
    for score in (0.5, 0.7):
        promote(client, name, score)
    client.set_registered_model_alias(name, "champion", "1")
    assert promote(client, name, 0.4) == 3
    chain = Succession(client, name).read().chain
    assert (chain.alias, chain.is_by_hand) == (1, True)
    assert promote(client, name, 0.6) == 4
    chain = Succession(client, name).read().chain
    assert (chain.alias, chain.links[-1].against) == (4, 1)


def test_an_alias_that_a_person_took_away_stays_away_until_the_next_promotion(client: MlflowClient, name: str) -> None:
    promote(client, name, 0.5)
    client.delete_registered_model_alias(name, "champion")
    promote(client, name, 0.4)
    assert Succession(client, name).read().chain.alias is None
    promote(client, name, 0.6)
    check(client, name)


def test_when_the_champion_is_deleted_the_one_before_has_to_be_beaten(client: MlflowClient, name: str) -> None:
    for score in (0.5, 0.7):
        promote(client, name, score)
    client.delete_model_version(name, "2")
    promote(client, name, 0.4)
    assert Succession(client, name).read().chain.champion == 1


def test_the_mark_of_a_writer_that_died_is_swept_away(client: MlflowClient, name: str) -> None:
    promote(client, name, 0.5)
    client.set_registered_model_tag(name, "hpo.moving.1000-dead", "1")
    Succession(client, name).settle()
    assert "hpo.moving.1000-dead" not in client.get_registered_model(name).tags
    client.set_registered_model_tag(name, f"hpo.moving.{2**33}-alive", "1")
    Succession(client, name).settle()
    assert f"hpo.moving.{2**33}-alive" in client.get_registered_model(name).tags
