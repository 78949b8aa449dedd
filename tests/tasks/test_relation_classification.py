from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from encoders import ENCODERS
from pydantic import ValidationError
from sklearn.metrics import f1_score

from hpo.answering import Model
from hpo.data.source import RawSplit, clean
from hpo.errors import DataError
from hpo.tasks import RelationClassification, relations
from hpo.tasks.relation_classification import MARKERS
from hpo.training.extended import extended
from hpo.training.hyperparameters import Hyperparameters
from hpo.training.model import Starting
from hpo.training.pretrained import Pretrained, load_tokenizer

MARKED = RelationClassification()
PLACED = RelationClassification(first="a", second="b")


def checked(task: RelationClassification, **row: Any) -> pa.Table:
    return clean(
        RawSplit(pa.table({name: [value] for name, value in {"label": "x", **row}.items()}), "toy"), task.layout
    )


@pytest.mark.parametrize("family", ["BERT, uncased", "RoBERTa", "DeBERTa v3"])
def test_both_ways_to_mark_entities_read_the_same_with_markers_that_are_one_token_each(
    family: str, tmp_path: Path
) -> None:
    base = ENCODERS[family](tmp_path / "base")
    folder = extended(Pretrained(base, "digest", "toy"), MARKERS, tmp_path / "cache").folder
    tokenizer = load_tokenizer(folder)
    marked = checked(MARKED, text="the <e2>Film</e2> was <e1>good</e1>!")
    placed = checked(PLACED, text="the Film was good!", a=[13, 17], b=[4, 8])
    rows = [task.encode(table, ("x", "y"), tokenizer) for task, table in ((MARKED, marked), (PLACED, placed))]
    assert rows[0].ragged["input_ids"].values.tolist() == rows[1].ragged["input_ids"].values.tolist()
    tokens = tokenizer.inner.convert_ids_to_tokens(rows[0].ragged["input_ids"].values.tolist())
    assert [token for token in tokens if token in MARKERS] == ["[E2]", "[/E2]", "[E1]", "[/E1]"]
    model = Starting(folder, MARKED.head, MARKED.head_config(("x", "y"))).build(Hyperparameters(), seed=0)
    assert model.get_input_embeddings().weight.shape[0] >= len(tokenizer.inner)  # type: ignore[operator]


def test_an_extended_model_is_made_once_and_the_same_by_whoever_makes_it(tiny_bert: Path, tmp_path: Path) -> None:
    base = Pretrained(tiny_bert, "digest", "toy")
    one, other = (extended(base, MARKERS, tmp_path / name) for name in ("one", "other"))
    assert one.digest == "digest"
    assert (one.folder / "model.safetensors").read_bytes() == (other.folder / "model.safetensors").read_bytes()
    written = (one.folder / "model.safetensors").stat().st_mtime_ns
    assert extended(base, MARKERS, tmp_path / "one") == one
    assert (one.folder / "model.safetensors").stat().st_mtime_ns == written
    assert extended(one, MARKERS, tmp_path / "again") == one
    assert extended(base, (), tmp_path / "none") == base


def test_a_marker_in_the_text_itself_is_no_marker(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(extended(Pretrained(tiny_bert, "d", "toy"), MARKERS, tmp_path).folder)
    row = MARKED.encode(checked(MARKED, text="a [E1] <e1>good</e1> <e2>film</e2>"), ("x", "y"), tokenizer)
    tokens = tokenizer.inner.convert_ids_to_tokens(row.ragged["input_ids"].values.tolist())
    assert tokens.count("[E1]") == 1


def test_texts_that_lose_a_marker_are_counted(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(extended(Pretrained(tiny_bert, "d", "toy"), MARKERS, tmp_path).folder)
    short = MARKED.model_copy(update={"max_length": 8})
    rows = short.encode(checked(short, text="<e1>good</e1> film was a very <e2>bad</e2>"), ("x", "y"), tokenizer)
    assert short.notes(rows) == ("1 of 1 texts lose a marker behind 8 tokens (task.max_length)",)
    assert MARKED.notes(MARKED.encode(checked(MARKED, text="<e1>a</e1> <e2>b</e2>"), ("x", "y"), tokenizer)) == ()


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        (MARKED, {"text": "<e1>a</e1> b"}, "has not each of <e1>, </e1>, <e2>, </e2> once"),
        (MARKED, {"text": "<e1>a</e1> <e1>b</e1> <e2>c</e2>"}, "once and in order"),
        (MARKED, {"text": "</e1>a<e1> <e2>c</e2>"}, "is no piece of a text"),
        (MARKED, {"text": "<e1>a <e2>b</e1> c</e2>"}, "overlap; mark two entities"),
        (PLACED, {"text": "a b", "a": [0, 1], "b": [2, 9]}, r"\[2, 9\] is no piece of a text of 3 characters"),
        (PLACED, {"text": "a b", "a": [0, 0], "b": [2, 3]}, r"\[0, 0\] is no piece"),
        (PLACED, {"text": "a b", "a": [0, 1, 2], "b": [2, 3]}, "write the first character and the one behind the last"),
    ],
)
def test_entities_that_are_not_there_are_refused(task: RelationClassification, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        checked(task, **row)


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        (MARKED, {"text": "no marks here"}, "row 2: 'text' has not each of <e1>"),
        (PLACED, {"text": "a b", "a": [0, 1], "b": [2, 9]}, r"row 2: \[2, 9\] is no piece of a text of 3 characters"),
    ],
)
def test_rows_that_are_asked_have_both_entities(
    task: RelationClassification, row: dict[str, Any], words: str, tmp_path: Path
) -> None:
    good = {"text": "<e1>a</e1> <e2>b</e2>", "a": [0, 1], "b": [2, 3]}
    with pytest.raises(DataError, match=words):
        Model(tmp_path, task, ("x", "y")).reply([{name: good[name] for name in row}, row])


def test_columns_of_places_go_together() -> None:
    with pytest.raises(ValidationError, match="first and second go together"):
        RelationClassification(first="a")
    with pytest.raises(ValidationError, match="named twice"):
        RelationClassification(first="a", second="a")


LABELS = ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Entity-Origin(e1,e2)", "Other")


def scores(said: list[int], true: list[int]) -> dict[str, float]:
    return relations.figures(*(relations.as_answers(np.array(own), LABELS, "Other") for own in (said, true)))


def test_what_is_no_relation_counts_for_nothing_and_a_wrong_direction_is_no_hit() -> None:
    """Counted by hand: as the scripts of TACRED, and of SemEval-2010 task 8 (9+1 ways, with directions)."""
    found = scores(said=[0, 1, 2, 3, 3, 2, 3, 0], true=[0, 0, 2, 2, 3, 3, 3, 1])
    # Cause-Effect: 1 hit of 3 said and 3 there; Entity-Origin: 1 hit of 2 said and 2 there.
    assert found["f1_macro_positive"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["f1_micro_positive"] == pytest.approx(2 * 2 / (5 + 5))
    assert scores([3, 3], [3, 3]) == {"f1_micro_positive": 0.0, "f1_macro_positive": 0.0}
    assert scores([0, 3], [0, 3]) == {"f1_micro_positive": 1.0, "f1_macro_positive": 1.0}


def test_micro_f1_of_relations_is_scikit_learn_s_over_the_other_classes() -> None:
    draw = np.random.default_rng(0)
    said, true = draw.integers(0, 4, 300), draw.integers(0, 4, 300)
    expected = f1_score(true, said, labels=[0, 1, 2], average="micro")
    assert scores(said.tolist(), true.tolist())["f1_micro_positive"] == pytest.approx(expected)


def test_the_class_that_is_no_relation_has_to_be_there() -> None:
    table = pa.table({"text": ["<e1>a</e1> <e2>b</e2>"] * 2, "label": ["x", "y"]})
    assert MARKED.model_copy(update={"negative": "y"}).label_names(table) == ("x", "y")
    with pytest.raises(DataError, match=r"task\.negative: Other is not among the classes x, y; name one of them"):
        MARKED.model_copy(update={"negative": "Other"}).label_names(table)
    assert "f1_macro_positive" not in MARKED.metric_names
