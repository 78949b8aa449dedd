import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from encoders import word_pieces
from toys import TOYS

from hpo.columns import IGNORED
from hpo.encoded import Encoded
from hpo.errors import DeadParameterError
from hpo.records import Report, Seeds, TrialConfig
from hpo.tasks import MaskedLm
from hpo.tasks.masked_lm import SHARE, Drawn, budgets, draw
from hpo.training import liveness
from hpo.training.pretrained import Tokenizer, load_tokenizer
from hpo.trial import TrialObjective

TASK = MaskedLm(max_length=32)
PARAMS = {"learning_rate": 5e-3, "num_train_epochs": 2, "per_device_train_batch_size": 8, "bf16": False}


def encoded(*texts: str) -> Encoded:
    return TASK.encode(pa.table({"text": list(texts)}), (), Tokenizer(word_pieces(lower=True)))


def test_words_are_masked_whole_and_as_many_as_the_share_asks_for() -> None:
    rows = encoded("it was a dab-gladly told film, verily", "good", "")
    words = rows.ragged["words"][0]
    for step in range(50):
        _, truth = draw(rows, 0, 0.3, 1, step)
        masked = {int(word) for word in words[truth >= 0]}
        assert -1 not in masked
        assert all(((words == word) <= (truth >= 0)).all() for word in masked)
        assert 1 <= (truth >= 0).sum() <= budgets(rows, 0.3)[0] or len(masked) == 1
    assert budgets(rows, 0.3).tolist()[1:] == [1, 0]
    assert (draw(rows, 2, 0.3, 1)[1] == IGNORED).all()


def test_rows_that_are_compared_give_as_many_terms_as_they_have_masked_tokens() -> None:
    """Not as many as were to be masked: a long word does not fit into the budget, and one is masked nevertheless."""
    rows = encoded("dab-gladly", "it was a very dab-gladly told film, verily", "gladly", "", *["good film"] * 3)
    masked = [int((rows.ragged["labels"][row] >= 0).sum()) for row in range(len(rows))]
    assert rows.terms.tolist() == masked
    assert masked != budgets(rows, SHARE).tolist()


def test_of_masked_tokens_most_become_the_mask_some_any_token_and_some_stay() -> None:
    rows = encoded(" ".join(["good film"] * 14))
    mask = int(rows.flat["special"][0, 0])
    fed, truth = map(np.concatenate, zip(*(draw(rows, 0, 0.5, 3, step) for step in range(200)), strict=True))
    chosen = truth >= 0
    assert np.mean(fed[chosen] == mask) == pytest.approx(0.8, abs=0.03)
    assert np.mean(fed[chosen] == truth[chosen]) == pytest.approx(0.1, abs=0.03)
    untouched = np.concatenate([rows.ragged["input_ids"][0]] * 200)
    np.testing.assert_array_equal(fed[~chosen], untouched[~chosen])


def test_a_row_at_a_step_is_masked_in_one_way_whatever_stands_beside_it() -> None:
    rows = encoded(*["it was a very good film"] * 6)
    drawn = Drawn.of(TASK, rows, 0, 0.4, seed=5)
    drawn.at(3)
    together = drawn(drawn.rows, np.arange(6))
    apart = drawn(drawn.rows, np.array([4, 2]))
    for place, row in enumerate((4, 2)):
        np.testing.assert_array_equal(apart["labels"][place], together["labels"][row])
        np.testing.assert_array_equal(apart["input_ids"][place], together["input_ids"][row])
    assert len({tuple(row) for row in together["labels"]}) > 1
    drawn.at(4)
    assert (drawn(drawn.rows, np.arange(6))["labels"] != together["labels"]).any()
    other = encoded(*["it was a very good film"] * 6)
    assert {tuple(row) for row in drawn(other, np.arange(6))["labels"]} == {tuple(other.ragged["labels"][0])}


@pytest.fixture
def objective(tiny_bert: Path, tmp_path: Path) -> TrialObjective:
    toy, tokenizer = TOYS["masked words"], load_tokenizer(tiny_bert)
    for seed, (split, rows) in enumerate({"train": 48, "validation": 24}.items()):
        toy.task.encode(toy.table(rows, seed), (), tokenizer).save(tmp_path / f"{split}.arrow")
    return TrialObjective(
        model=tiny_bert,
        task=toy.task,
        labels=(),
        data=tmp_path,
        checkpoints=tmp_path / "checkpoints",
        metric="perplexity",
        mode="min",
        pad_id=tokenizer.pad_id,
    )


def run(objective: TrialObjective, order: int = 2, **params: object) -> list[Report]:
    seeds = Seeds(init=1, order=order)
    return list(objective(TrialConfig(number=0, params={**PARAMS, **params}, seeds=seeds, rungs=(1.0,))))


def test_what_a_step_is_fed_does_not_depend_on_how_it_was_come_to(objective: TrialObjective) -> None:
    training = objective._prepare(TrialConfig(number=0, params=PARAMS, seeds=Seeds(1, 2)))
    walked = []
    for micro in itertools.islice(training.steps(), 9):
        walked.append([training.collate(training.train, rows) for rows in micro])
    (micro,) = itertools.islice(training.steps(), 8, 9)  # as a training that goes on there
    again = [training.collate(training.train, rows) for rows in micro]
    for one, other in zip(walked[-1], again, strict=True):
        assert {name: array.tolist() for name, array in one.items()} == {
            name: array.tolist() for name, array in other.items()
        }


def test_the_share_is_a_live_hyperparameter_and_rows_are_compared_alike_whatever_it_is(
    objective: TrialObjective,
) -> None:
    few, many = run(objective, mlm_probability=0.1), run(objective, mlm_probability=0.5)
    assert few[-1].metrics["perplexity"] != many[-1].metrics["perplexity"]
    training = objective._prepare(TrialConfig(number=0, params={**PARAMS, "mlm_probability": 0.5}, seeds=Seeds(1, 2)))
    liveness.assert_live(training, {"mlm_probability": 0.5})
    with pytest.raises(DeadParameterError, match=r"mlm_probability=0\.1"):
        liveness.assert_live(training, {"mlm_probability": 0.1})
    plain = objective._prepare(TrialConfig(number=0, params=PARAMS, seeds=Seeds(1, 2)))
    rows = np.arange(8)
    for name, array in training.collate(training.validation, rows).items():
        np.testing.assert_array_equal(array, plain.collate(plain.validation, rows)[name])


def test_the_same_seeds_mask_the_same_and_others_do_not(objective: TrialObjective) -> None:
    first, again, other = run(objective), run(objective), run(objective, order=3)
    assert [one.metrics["perplexity"] for one in first] == [one.metrics["perplexity"] for one in again]
    assert first[-1].metrics["perplexity"] != other[-1].metrics["perplexity"]
    assert first[-1].metrics["loss"] == pytest.approx(np.log(first[-1].metrics["perplexity"]), rel=0.2)
