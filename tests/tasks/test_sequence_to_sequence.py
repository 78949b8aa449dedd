import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from encoders import ENCODERS
from toys import TOYS

from hpo.answering import Model
from hpo.config import load
from hpo.errors import ConfigError
from hpo.records import Report, Seeds, TrialConfig
from hpo.tasks import SequenceToSequence, writing
from hpo.training import liveness
from hpo.training.families import HEADS
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import Starting
from hpo.training.pretrained import load_tokenizer
from hpo.trial import TrialObjective

TOY = TOYS["texts from texts"]
PARAMS = {"learning_rate": 5e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8, "bf16": False}
TASK = "type: sequence-to-sequence, source: sentence, target: label, max_target_length: 4"
WRITTEN = ["the cat sat on the red mat today", "A dog barks at the moon every night", ""]
RIGHT = ["the cat sat on a red mat", "a dog barks at the moon on every night", "nothing was said here"]


def objective(model: Path, folder: Path, task: SequenceToSequence) -> TrialObjective:
    tokenizer = load_tokenizer(model)
    for seed, (split, rows) in enumerate({"train": 160, "validation": 40}.items()):
        task.encode(TOY.table(rows, seed), (), tokenizer).save(folder / f"{split}.arrow")
    return TrialObjective(
        model=model,
        task=task,
        labels=(),
        data=folder,
        checkpoints=folder / "checkpoints",
        metric="rougeL",
        mode="max",
        pad_id=tokenizer.pad_id,
    )


def run(own: TrialObjective, **params: object) -> list[Report]:
    return list(own(TrialConfig(number=0, params={**PARAMS, **params}, seeds=Seeds(init=1, order=2), rungs=(1.0,))))


@pytest.mark.parametrize("family", ["BERT, uncased", "RoBERTa"])
def test_what_is_written_follows_from_what_is_read(family: str, tmp_path: Path) -> None:
    *_, last = run(objective(ENCODERS[family](tmp_path / "model"), tmp_path, TOY.task))
    assert last.metrics["rougeL"] > 0.95
    assert last.checkpoint is not None
    model, rows = Model.open(last.checkpoint), TOY.table(20, 7)
    said = [reply["prediction"] for reply in model.reply(rows["source"].to_pylist())]
    assert np.mean([own == right for own, right in zip(said, rows["target"].to_pylist(), strict=True)]) > 0.9


def test_a_checkpoint_is_one_of_transformers_own_and_writes_the_same_there(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import EncoderDecoderModel

    *_, last = run(objective(tiny_bert, tmp_path, TOY.task), num_train_epochs=1)
    assert last.checkpoint is not None
    theirs = EncoderDecoderModel.from_pretrained(last.checkpoint)
    tokenizer = load_tokenizer(last.checkpoint).inner
    text = "a very good film"
    ids = theirs.generate(**tokenizer([text], return_tensors="pt", return_token_type_ids=False), max_new_tokens=7)
    assert Model.open(last.checkpoint).reply([text]) == [
        {"prediction": tokenizer.decode(ids[0], skip_special_tokens=True)}
    ]


def test_halves_begin_alike_and_may_share_their_words(tiny_bert: Path) -> None:
    apart, together = (
        Starting(tiny_bert, TOY.task.head, task.head_config(())).build(Hyperparameters(), seed=1)
        for task in (TOY.task, TOY.task.model_copy(update={"tie_embeddings": True}))
    )
    words = "embeddings.word_embeddings.weight"
    for model in (apart, together):
        parts = dict(model.named_parameters(remove_duplicate=False))
        assert torch.equal(parts[f"encoder.{words}"], parts[f"decoder.bert.{words}"])
        assert parts["decoder.cls.predictions.decoder.weight"] is parts[f"decoder.bert.{words}"]
        assert (parts[f"encoder.{words}"] is parts[f"decoder.bert.{words}"]) == (model is together)
        layer = "encoder.layer.0.attention.self.query.weight"
        assert torch.equal(parts[f"encoder.{layer}"], parts[f"decoder.bert.{layer}"])


def test_tied_or_with_beams_it_answers_after_training_as_in_it(tiny_bert: Path, tmp_path: Path) -> None:
    task = TOY.task.model_copy(update={"tie_embeddings": True, "beams": 3})
    own = objective(tiny_bert, tmp_path, task)
    *_, last = run(own, averaging="ema", ema_decay=0.9)
    assert last.checkpoint is not None
    model = Model.open(last.checkpoint)
    rows = model.encode(TOY.table(40, 1))
    found = model.task.compute_metrics(model.outputs(rows), rows, ())
    assert found["rougeL"] == pytest.approx(last.metrics["rougeL"], abs=1e-6)


def test_a_dropout_is_that_of_both_halves(tiny_bert: Path, tmp_path: Path) -> None:
    own = objective(tiny_bert, tmp_path, TOY.task)
    params = {**PARAMS, "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2, "label_smoothing_factor": 0.1}
    training = own._prepare(TrialConfig(number=0, params=params, seeds=Seeds(1, 2)))
    liveness.assert_live(training, params)
    assert training.model_config["encoder"]["hidden_dropout_prob"] == 0.3
    assert training.model_config["decoder"]["hidden_dropout_prob"] == 0.3
    assert {name.split(".")[0] for name in training.dropouts("hidden_dropout_prob")} == {"encoder", "decoder"}


def test_scores_are_those_of_the_libraries() -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    found = writing.written(WRITTEN, RIGHT)
    scorer = RougeScorer(["rougeL"])
    each = [scorer.score(right, own)["rougeL"].fmeasure for own, right in zip(WRITTEN, RIGHT, strict=True)]
    assert found["rougeL"] == pytest.approx(np.mean(each))
    assert found["sacrebleu"] == pytest.approx(BLEU(lowercase=True).corpus_score(WRITTEN, [RIGHT]).score)
    assert found["sacrebleu"] > 20
    rows = np.array([1, 1, 0])
    counts = writing.counts("sacrebleu", WRITTEN, RIGHT)[rows]
    again = BLEU(lowercase=True).corpus_score([WRITTEN[row] for row in rows], [[RIGHT[row] for row in rows]])
    assert writing.plain("sacrebleu")(counts, rows) == pytest.approx(again.score)
    assert writing.written([""], ["a b"]) == dict.fromkeys(writing.METRICS, 0.0)


def test_long_texts_are_cut_and_scored_whole(tiny_bert: Path) -> None:
    task = SequenceToSequence(max_length=6, max_target_length=4)
    texts = {"source": ["a film", "it was a very very good film"], "target": ["good", "a very good film it was"]}
    rows = task.encode(pa.table(texts), (), load_tokenizer(tiny_bert))
    assert [rows.ragged[name].lengths.tolist() for name in ("input_ids", "before", "labels")] == [
        [4, 6],
        [2, 3],
        [2, 3],
    ]
    assert rows.terms.tolist() == [2, 3]
    assert rows.ragged["right"].text(1) == texts["target"][1]
    assert task.notes(rows) == (
        "1 of 2 sources are longer than 6 tokens, and cut (task.max_length)",
        "1 of 2 targets are longer than 4 tokens, and cut (task.max_target_length)",
    )


def test_models_of_other_vocabularies_can_be_compared(tiny_bert: Path, tmp_path: Path) -> None:
    table, answers = TOY.table(6, 3), np.full((6, 3), -1.0, np.float32)
    other = ENCODERS["RoBERTa"](tmp_path / "other")
    one, two = (TOY.task.encode(table, (), load_tokenizer(folder)) for folder in (tiny_bert, other))
    references = [TOY.task.evidence(answers, rows, (), "rougeL")[1].tolist() for rows in (one, two)]
    assert references[0] == references[1]


@pytest.fixture
def retelling(films: Path) -> Path:
    """The space file, for a model that writes the label."""
    text = films.read_text().replace("type: sequence-classification, text: sentence, label: label", TASK)
    films.write_text(text)
    return films


def test_what_has_no_decoder_is_refused_before_it_is_loaded(retelling: Path, tmp_path: Path) -> None:
    folder = ENCODERS["DistilBERT"](tmp_path / "distilled")
    text = re.sub(r"model: \{name: .*\}", f"model: {{name: {folder}}}", retelling.read_text())
    retelling.write_text(text)
    with pytest.raises(ConfigError, match=r"task.type.*'distilbert' has no head for writing a text; name a model of"):
        load(retelling)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("max_target_length: 4", "max_target_length: 65", "65 tokens, but the model has 64 positions"),
        ("target: label", "target: sentence", "source and target are both 'sentence'"),
        ("  learning_rate:", "  frozen_layers: 1\n  learning_rate:", "has no meaning for writing a text"),
        ("type: sequence-to-sequence,", "type: sequence-to-sequence, beams: 9,", "8"),
    ],
)
def test_what_can_not_be_is_refused(retelling: Path, before: str, after: str, words: str) -> None:
    assert before in retelling.read_text()
    retelling.write_text(retelling.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=words):
        load(retelling)


@pytest.mark.parametrize("kind", sorted(HEADS["EncoderDecoderModel"]))
def test_every_kind_that_is_named_can_write(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, num_hidden_layers=1, is_decoder=True, add_cross_attention=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert any("crossattention" in name for name, _ in model.named_parameters())
