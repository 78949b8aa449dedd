import re
from pathlib import Path

from hpo import config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_space_file_of_the_readme_is_right(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "reviews.yaml"
    path.write_text(example)
    loaded = config.load(path)
    assert loaded.study == "reviews"
    assert {"default", "bert-paper-grid", "first"} == {origin for origin, _ in loaded.first_points()}


def test_the_map_of_the_readme_shows_what_is_there():
    (tree,) = re.findall(r"```\nhpo/\n(.*?)```", README, re.DOTALL)
    rooms, top = tree.split("search_spaces/")
    named = set(re.findall(r"\b(\w+(?:\.py|/))(?=\s|$)", rooms))
    there = {f"{path.name}{'/' * path.is_dir()}" for path in (ROOT / "hpo").iterdir() if path.name[0] not in "_."}
    assert named == there
    for folder in re.findall(r"^(\w+)/", top, re.MULTILINE):
        assert (ROOT / folder).is_dir()
