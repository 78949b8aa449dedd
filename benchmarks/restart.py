"""How long a killed study of many trials takes to go on: the rooms alone, and the whole command.

`reopened` builds ledger, search and spool over a study that is cut off, and asks for its trial again. `resumed` runs
`hpo.run --resume` as a user would, over the quickstart's rows and model, until a trial begins; what had finished before
are toy trials, since a thousand real ones take hours. Must not know how the rooms do it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpo.ledger import Ledger
from hpo.ledger.past import read_study
from hpo.records import AnyEvent
from hpo.runners.inline import InlineRunner
from hpo.runners.toy import ToyObjective
from hpo.samplers import RandomConfig
from hpo.schedulers import AshaConfig, FifoConfig
from hpo.space import FloatRange, SearchSpace
from hpo.study.search import StudySearch
from hpo.study.steps import Ladder
from hpo.study.told import catch_up

SPACE = SearchSpace({"learning_rate": FloatRange(1e-5, 1e-1, log=True), "hidden_dropout_prob": FloatRange(0.0, 0.5)})
REPORTS = 3
FIFO = FifoConfig()
ROOT = Path(__file__).resolve().parent.parent
Figures = dict[str, Any]


def opened(folder: Path, name: str = "load") -> Ledger:
    return Ledger(folder, study=name, mode="max", space=SPACE, sampler=RandomConfig(), seed=3)


def search_on(
    ledger: Ledger,
    trials: int,
    emit: Callable[[AnyEvent], None],
    scheduler: AshaConfig | FifoConfig = FIFO,
    clock: Callable[[], float] = time.monotonic,
) -> StudySearch:
    return StudySearch(
        ledger=ledger,
        scheduler=scheduler.build(SPACE, 3),
        metric="accuracy",
        mode="max",
        ladder=Ladder.of(scheduler, SPACE),
        emit=emit,
        trials=trials,
        clock=clock,
    )


class Deaf:
    """A tracker that takes everything at once."""

    def apply(self, event: AnyEvent) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def reopened(trials: int) -> Figures:
    """Killed in its last trial: open the ledger, the search and the spool, catch up, and ask for that trial again."""
    from hpo.tracking.spool import Spool

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, Deaf)
        search = search_on(opened(folder), trials, spool.append)
        InlineRunner(ToyObjective(reports=REPORTS)).run(search)
        search.trials = trials + 1
        assert search.ask() is not None
        spool.close(60)
        began = time.monotonic()
        spool = Spool(folder, Deaf)
        again = search_on(opened(folder), trials + 1, spool.append)
        again.told = catch_up(spool, again.records, {}).steps
        asked = again.ask()
        seconds = time.monotonic() - began
        spool.close(60)
    if asked is None or asked.number != trials:
        raise AssertionError(f"{asked} goes on, not trial {trials}")
    return {"figure": f"a study of {trials:,} trials is opened after a kill", "count": trials, "seconds": seconds}


FINISHED = """
import sys
from pathlib import Path
from hpo import config
from hpo.runners.inline import InlineRunner
from hpo.runners.toy import ToyObjective
from hpo.study import driver
loaded = config.load(Path(sys.argv[1]), sys.argv[2:])
sys.exit(driver.run(loaded, runner=lambda objective, resources, address: InlineRunner(ToyObjective(reports=3))))
"""


def resumed(trials: int) -> Figures:
    """Killed with -9 after so many finished trials: from the start of `hpo.run --resume` until a trial begins."""
    space = ROOT / "search_spaces" / "quickstart.yaml"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        changes = [f"storage={folder}", f"tracking.uri=sqlite:///{folder}/mlflow.db", f"budget.trials={trials + 2}"]
        log = folder / "said"
        with log.open("w") as out:
            first = [sys.executable, "-c", FINISHED, str(space), *changes, "search.sampler={type: random}"]  # soon made
            crash = {**os.environ, "HPO_CRASH": f"after-ask:{trials + 1}"}
            code = subprocess.run(first, cwd=ROOT, stdout=out, stderr=out, env=crash).returncode
        if code != -signal.SIGKILL:
            raise AssertionError(f"it ended with {code}:\n{log.read_text()[-2_000:]}")
        finished = sum(own.state.is_finished for own in read_study(folder / "quickstart", "quickstart", "max").trials)
        if finished != trials:
            raise AssertionError(f"{finished} trials have finished, not {trials}")
        again = [sys.executable, "-u", "-m", "hpo.run", "--space", str(space), "--resume"]
        again += [part for change in changes for part in ("--set", change)]
        began = time.monotonic()
        with subprocess.Popen(again, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
            assert driver.stdout is not None
            said = []
            for line in driver.stdout:
                said.append(f"{time.monotonic() - began:6.1f} s  {line}")
                if re.search(r"trial \d+ +started", line):
                    break
            seconds = time.monotonic() - began
            driver.send_signal(signal.SIGTERM)
            driver.communicate()
    if not said or "started" not in said[-1]:
        raise AssertionError(f"no trial began:\n{''.join(said)}")
    print("".join(said), end="")
    return {
        "figure": f"`hpo.run --resume` over {trials:,} finished trials, until a trial begins",
        "count": trials,
        "seconds": seconds,
    }
