"""Trials one after the other in this very process: for tests, for debugging with a breakpoint."""

from contextlib import closing
from dataclasses import dataclass

from hpo.errors import TrialError
from hpo.failures import failure_of, is_out_of_memory
from hpo.records import Objective, Verdict
from hpo.runners import Search


@dataclass(frozen=True)
class InlineRunner:
    """Only a TrialError or too little memory fails a trial; anything else is a bug, and comes out whole."""

    objective: Objective

    def run(self, search: Search) -> None:
        while not search.stopping and not search.exhausted:
            config = search.ask()
            if config is None:
                return
            try:
                with closing(self.objective(config)) as reports:
                    for report in reports:
                        if search.report(config.number, report) is Verdict.STOP or search.stopping:
                            break
            except Exception as error:
                if not isinstance(error, TrialError) and not is_out_of_memory(error):
                    raise
                search.failed(config.number, failure_of(error))
