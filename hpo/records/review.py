"""What is known of the winner's answers on the test rows beside its metrics: where it is wrong, whether its
probabilities can be believed, why it answers so. Who finds that out and who shows it must not know each other."""

from hpo.records.trials import Record


class Mistake(Record):
    """One row. row: of the test split, from 0 on. text: what was asked, cut. score: as `Mistakes.score` says."""

    row: int
    text: str
    truth: str
    said: str
    score: float


class Mistakes(Record):
    """The worst rows, the worst first. score: what the figure of each is, in words. wrong: how many rows are wrong;
    None where each is more or less so."""

    score: str
    wrong: int | None
    rows: tuple[Mistake, ...]


class Confusion(Record):
    """cells: (true class, class that was said, rows), by number of the class, without the empty ones."""

    labels: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]


class Bin(Record):
    """Rows whose answers have a probability from `low` on, below `high`. sure: the mean of it. right: the share of them
    that is right."""

    low: float
    high: float
    rows: int
    sure: float
    right: float


class Reliability(Record):
    """Probabilities against how often they are right, as they are and with the logits divided by `temperature`, which
    was fitted on `fitted_on` validation rows. error, error_after: expected calibration errors of the test rows."""

    temperature: float
    fitted_on: int
    error: float
    error_after: float
    bins: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]


class Piece(Record):
    """A token of a text. weight: what it gave to the answer, in logits. begins: whether a word begins with it."""

    text: str
    weight: float
    begins: bool = True


class Explained(Record):
    """One row's answer, token by token. is_right: or, of a number, close. output: what is explained, with its logit
    `logit`, and `baseline`, the same without any words; the weights add up to the difference, but for the error of the
    sum."""

    row: int
    truth: str
    said: str
    is_right: bool
    output: str
    logit: float
    baseline: float
    pieces: tuple[Piece, ...]

    @property
    def gap(self) -> float:
        """By how much the sum of the weights misses the difference of the logits: the completeness check."""
        return sum(piece.weight for piece in self.pieces) - (self.logit - self.baseline)


class Review(Record):
    """All of it. unexplained: why nothing is explained, where that is so."""

    mistakes: Mistakes | None = None
    confusion: Confusion | None = None
    reliability: Reliability | None = None
    explained: tuple[Explained, ...] = ()
    unexplained: str | None = None
