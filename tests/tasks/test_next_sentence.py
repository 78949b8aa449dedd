import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from encoders import ENCODERS, word_pieces

from hpo.answering import Model
from hpo.config import load
from hpo.encoded import Encoded
from hpo.errors import ConfigError, DataError
from hpo.records import Seeds, TrialConfig
from hpo.tasks import MaskedLm, as_asked
from hpo.tasks.next_sentence import FOLLOWS, STRANGER, UNKNOWN, halves, pairs
from hpo.training import masked
from hpo.training.families import HEADS
from hpo.training.pretrained import Tokenizer, load_tokenizer
from hpo.trial import TrialObjective

TASK = MaskedLm(max_length=16, next_sentence=True)
ASKED = "type: masked-lm, text: sentence, next_sentence: true"
TEXTS = [
    f"it was a {word} film number {place}. the plot was {word}." for place, word in enumerate(["good", "bad"] * 20)
]


def encoded(*texts: str, task: MaskedLm = TASK) -> Encoded:
    return task.encode(pa.table({"text": list(texts)}), (), Tokenizer(word_pieces(lower=True)))


def test_a_text_is_parted_between_the_sentences_nearest_to_its_middle() -> None:
    assert halves("One. Two is longer! Three?") == ("One. Two is longer!", "Three?")
    assert halves('He said "no." Then he went.') == ('He said "no."', "Then he went.")
    assert halves("a title\nand a body") == ("a title", "and a body")
    assert halves("only one sentence, 3.5 long.") == ("only one sentence, 3.5 long.", "")
    assert halves("") == ("", "")


def test_about_half_of_the_second_halves_are_those_of_others() -> None:
    firsts, seconds, found = pairs([*TEXTS, "one sentence only"])
    own = [halves(text) for text in TEXTS]
    assert found[-1] == UNKNOWN
    assert firsts[:-1] == [first for first, _ in own]
    assert 8 < (found[:-1] == STRANGER).sum() < 24
    for row, (_, second) in enumerate(own):
        assert (seconds[row] == second) == (found[row] == FOLLOWS)
        assert seconds[row] in {other for _, other in own}
    assert pairs([*TEXTS, "one sentence only"])[1] == seconds
    assert pairs(TEXTS[:1])[2].tolist() == [FOLLOWS]


def test_pairs_fit_and_the_longer_half_is_cut_first() -> None:
    row = encoded("good. " + "bad " * 30).take(np.array([0]))
    ids, types = row.ragged["input_ids"][0], row.ragged["token_type_ids"][0]
    assert len(ids) == 16
    assert types.tolist() == [0] * 4 + [1] * 12
    words = row.ragged["words"][0]
    assert (words < 0).nonzero()[0].tolist() == [0, 3, 15]
    assert np.diff(words[words >= 0]).tolist() == [1] * 12
    assert row.flat["cut"].tolist() == [1]


def test_one_sentence_asks_nothing_and_is_counted() -> None:
    rows = encoded(*TEXTS[:6], "a film")
    assert "1 of 7 texts are one sentence, behind which nothing can stand" in TASK.notes(rows)
    batch = TASK.collate(rows, np.array([6, 0]), 0)
    assert batch["labels"][:, 0].tolist() == [-100, -1 - rows.flat["next"][0]]
    assert (batch["labels"].ravel()[batch["places"]] >= 0).all()
    with pytest.raises(DataError, match=r"no text of two sentences.*remove next_sentence"):
        encoded("a film", "a plot")


def test_whoever_asks_about_a_text_is_answered_about_that_text_alone() -> None:
    asked = as_asked(TASK)
    assert (asked.next_sentence, asked.max_length) == (False, 16)
    alone, among = encoded(TEXTS[0], task=asked), encoded(*TEXTS, task=asked)
    np.testing.assert_array_equal(alone.ragged["input_ids"][0], among.ragged["input_ids"][0])


def test_the_loss_of_the_answer_is_added_and_the_perplexity_stays_that_of_words() -> None:
    labels = torch.tensor([[-2, 3, -100], [-1, -100, 4], [-100, 5, -100]])
    draw = torch.Generator().manual_seed(0)
    words, rows = torch.randn(1, 3, 9, generator=draw), torch.randn(3, 2, generator=draw)
    sums = masked.by_row(masked.joined(words, rows), labels)
    torch.testing.assert_close(sums[:, :3], masked.by_row(words, labels))
    expected = torch.nn.functional.cross_entropy(rows[:2], torch.tensor([1, 0]), reduction="none")
    torch.testing.assert_close(sums[:, 3], torch.cat([expected, torch.zeros(1)]))
    assert sums[:, 4].tolist() == [1, 1, 0]
    assert sums[:, 5].tolist() == [float(rows[0].argmax() == 1), float(rows[1].argmax() == 0), 0]
    found = TASK.compute_metrics(sums.numpy(), encoded(*TEXTS[:3]), ())
    assert found["perplexity"] == pytest.approx(float(torch.exp(sums[:, 0].sum() / 3)))
    assert found["next_sentence_accuracy"] == float(sums[:, 5].sum()) / 2


def test_it_learns_which_sentence_follows(tmp_path: Path) -> None:
    folder = ENCODERS["BERT, uncased"](tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    one = ["good", "bad", "film", "plot", "very", "was"]
    firsts = [f"{one[row % 6]} {one[row // 6]} it." for row in range(8)]
    texts = [
        f"{first} {one[(row * 5 + 1) % 6]} {one[row // 3]} was {one[row % 5]}." for row, first in enumerate(firsts)
    ]
    rows = TASK.encode(pa.table({"text": texts}), (), tokenizer)
    for split in ("train", "validation"):  # whether it can be learnt at all
        rows.save(tmp_path / f"{split}.arrow")
    objective = TrialObjective(
        model=folder,
        task=TASK,
        labels=(),
        data=tmp_path,
        checkpoints=tmp_path / "checkpoints",
        metric="next_sentence_accuracy",
        mode="max",
        pad_id=tokenizer.pad_id,
    )
    params = {
        "learning_rate": 3e-3,
        "num_train_epochs": 120,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0.0,
        "per_device_train_batch_size": 8,
        "hidden_dropout_prob": 0.0,
        "bf16": False,
    }
    *_, last = objective(TrialConfig(number=0, params=params, seeds=Seeds(1, 2), rungs=(0.5, 1.0)))
    assert last.checkpoint is not None
    model = Model.open(last.checkpoint)
    assert model.task.compute_metrics(model.outputs(rows), rows, ())["next_sentence_accuracy"] > 0.9
    assert {*model.reply([texts[0]])[0]} == {"prediction", "masked"}


def test_a_model_without_such_a_head_is_refused_before_it_is_loaded(films: Path, tmp_path: Path) -> None:
    text = films.read_text().replace("type: sequence-classification, text: sentence, label: label", ASKED)
    films.write_text(text)
    assert load(films).task.head == "AutoModelForPreTraining"
    folder = ENCODERS["DistilBERT"](tmp_path / "distilled")
    films.write_text(re.sub(r"model: \{name: .*\}", f"model: {{name: {folder}}}", text))
    with pytest.raises(
        ConfigError, match=r"task.next_sentence: .*'distilbert' has no head.*; remove next_sentence, or"
    ):
        load(films)
    films.write_text(text.replace("max_length: 16", "max_length: 7"))
    with pytest.raises(ConfigError, match="no room for two sentences"):
        load(films)


@pytest.mark.parametrize("kind", sorted(HEADS["AutoModelForPreTraining"]))
def test_every_kind_that_is_named_has_the_head(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForPreTraining

    with torch.device("meta"):
        model = AutoModelForPreTraining.from_config(AutoConfig.for_model(kind, num_hidden_layers=1))
    assert model.cls.seq_relationship.out_features == 2
