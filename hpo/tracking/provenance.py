"""Where a run comes from: user, program, commit of the code. Must not know MLflow beyond the names of its tags."""

import getpass
import subprocess
from pathlib import Path


def provenance() -> dict[str, str]:
    """MLflow's own tags for it. The commit ends in `-dirty` where tracked files were changed; none outside of git."""
    tags = {"mlflow.user": _user(), "mlflow.source.name": "hpo.run", "mlflow.source.type": "LOCAL"}
    commit = _commit(Path(__file__))
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def _commit(file: Path) -> str | None:
    """The commit of the repository that tracks `file`; an installed copy inside another repository has none."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
