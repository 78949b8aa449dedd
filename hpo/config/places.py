"""Where a space file is: a path, `spaces/<file>`, or the bare name of a shipped space."""

from pathlib import Path

from hpo.config.wording import nearest
from hpo.errors import ConfigError, Problem

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = ("spaces", "search_spaces")
_SUFFIXES = ("", ".yaml", ".yml")


def find(name: str) -> Path:
    """The file that `name` means: what exists under that very path comes first. ConfigError with all places tried."""
    given = Path(name)
    inside = Path(*given.parts[1:]) if given.parts[:1] in [(folder,) for folder in _FOLDERS] else given
    tried = [given]
    if given.suffix not in _SUFFIXES or not given.suffix:
        tried += [Path(f"{name}{suffix}") for suffix in _SUFFIXES[1:] if name]
    if len(inside.parts) == 1:
        endings = _SUFFIXES[:1] if inside.suffix in _SUFFIXES[1:] else _SUFFIXES[1:]
        tried += [folder / f"{inside}{ending}" for folder in _shipping_folders() for ending in endings]
    for place in tried:
        try:
            if place.is_file():
                return place
        except (OSError, ValueError):
            continue  # a name that no file can have
    listed = ", ".join(dict.fromkeys(str(place) for place in tried))
    remedy = nearest(inside.stem, shipped())
    raise ConfigError([Problem("--space", f"{name!r} is not there; tried {listed}; {remedy}")])


def shipped() -> list[str]:
    """The bare names of all spaces that come with the program."""
    return sorted({path.stem for folder in _shipping_folders() for path in folder.glob("*.yaml")})


def _shipping_folders() -> list[Path]:
    """The working folder's, the repository's, and the installed package's."""
    return [Path("search_spaces"), _PACKAGE.parent / "search_spaces", _PACKAGE / "search_spaces"]
