import re
from pathlib import Path

import pytest

from hpo import config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "docker" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_space_file_of_the_readme_is_right(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "reviews.yaml"
    path.write_text(example)
    loaded = config.load(path)
    assert loaded.study == "reviews"
    assert {"default", "bert-paper-grid", "first"} == {origin for origin, _ in loaded.first_points()}


def test_the_map_of_the_code_shows_what_is_there():
    page = (ROOT / "docs" / "development.md").read_text()
    (tree,) = re.findall(r"```\nhpo/\n(.*?)```", page, re.DOTALL)
    rooms, top = tree.split("search_spaces/")
    named = set(re.findall(r"\b(\w+(?:\.py|/))(?=\s|$)", rooms))
    there = {f"{path.name}{'/' * path.is_dir()}" for path in (ROOT / "hpo").iterdir() if path.name[0] not in "_."}
    assert named == there
    for folder in re.findall(r"^(\w+)/", top, re.MULTILINE):
        assert (ROOT / folder).is_dir()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}, target


def test_spaces_that_are_named_are_shipped():
    pages = [*PAGES, *(ROOT / "search_spaces").glob("*.yaml")]
    named = {name for page in pages for name in re.findall(r"spaces/(\w+)\.yaml", page.read_text())} - {"x"}
    assert named <= set(config.shipped())
