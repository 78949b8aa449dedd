"""What a killed driver began to write is removed by the next one, and nothing else is."""

from pathlib import Path

from hpo.study.folder import remove_temporaries


def test_what_has_a_temporary_name_goes_and_all_else_stays(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    for name in (".study.json.4711", "study.json", ".hidden", "events.jsonl"):
        (tmp_path / name).write_text("x")
    for name in (".trial-0001.4711", "trial-0001"):
        (checkpoints / name).mkdir()
        (checkpoints / name / "model.safetensors").write_text("x")
    remove_temporaries(tmp_path, checkpoints, tmp_path / "population")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "checkpoints", "events.jsonl", "study.json"]
    assert [path.name for path in checkpoints.iterdir()] == ["trial-0001"]
