"""Two searches as one for a runner: the search of a study, and the confirmation that follows from what it found.

The runner starts once, and its processes stay warm from one to the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hpo.records import Failure, Report, TrialConfig, Verdict
from hpo.study.confirm import Confirmation
from hpo.study.search import StudySearch


@dataclass
class SearchThenConfirm:
    """Implements `runners.Search`. confirm: makes the confirmation once no trial of the search runs any more; None
    where there is nothing to confirm. Their handles may be the same: they never run side by side. stopped_by: the
    signal that ended it, if one did.
    """

    search: StudySearch
    confirm: Callable[[], Confirmation | None]
    confirmation: Confirmation | None = None
    stopped_by: int | None = None
    _is_searching: bool = True

    @property
    def stopping(self) -> bool:
        return self.stopped_by is not None or self._phase.stopping

    @property
    def trouble(self) -> str | None:
        """Why the one or the other can't go on, though it is not over."""
        return self._phase.trouble

    @property
    def exhausted(self) -> bool:
        """Not before the confirmation is made, as the one or the other step of the search does once it is over."""
        return not self._is_searching and self._phase.exhausted

    def open(self) -> None:
        """Before a runner: a search that is over already needs none, if its confirmation needs none."""
        self._go_on()

    def ask(self) -> TrialConfig | None:
        self._go_on()
        config = self._phase.ask()
        if config is None and self._is_searching:  # only now may the search know that there is no other
            self._go_on()
            config = self._phase.ask()
        return config

    def report(self, number: int, report: Report) -> Verdict:
        verdict = self._phase.report(number, report)
        self._go_on()
        return verdict

    def failed(self, number: int, failure: Failure) -> None:
        self._phase.failed(number, failure)
        self._go_on()

    @property
    def _phase(self) -> StudySearch | Confirmation:
        return self.confirmation or self.search

    def _go_on(self) -> None:
        """To the confirmation, once the search is over."""
        if not self._is_searching or self.stopping or self.search.is_under_way or not self.search.exhausted:
            return
        self._is_searching = False
        self.confirmation = self.confirm()
