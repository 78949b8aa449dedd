"""`python docker/make_secrets.py [FOLDER]`: the secrets of a cluster, one file each, for its owner's eyes only.

Those that are there already stay. Needs nothing but Python, and prints nothing secret. `.env` beside compose.yaml gets
the user that owns them: the containers run as that user, since libpq refuses a password file of anybody else's.
"""

import json
import os
import secrets
import sys
from pathlib import Path

USER = "hpo"
"""Of PostgreSQL, MLflow and S3."""


def make(folder: Path, database_host: str = "postgres", database_port: int = 5432) -> None:
    """database_host, database_port: where the containers find PostgreSQL."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _keep(folder / "ray_token", secrets.token_hex(32))
    _keep(folder / "mlflow_flask_key", secrets.token_hex(32))
    database = _keep(folder / "postgres_password", secrets.token_hex(24))
    _keep(folder / "pgpass", f"{database_host}:{database_port}:*:{USER}:{database}\n")
    admin = _keep(folder / "mlflow_password", secrets.token_hex(24))
    _keep(
        folder / "mlflow_credentials",
        f"[mlflow]\nmlflow_tracking_username = {USER}\nmlflow_tracking_password = {admin}\n",
    )
    key = _keep(folder / "s3_key", secrets.token_hex(24))
    _keep(folder / "s3_credentials", f"[default]\naws_access_key_id = {USER}\naws_secret_access_key = {key}\n")
    identity = {
        "name": USER,
        "credentials": [{"accessKey": USER, "secretKey": key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _keep(folder / "s3_identities.json", json.dumps({"identities": [identity]}, indent=2))


def _keep(path: Path, text: str) -> str:
    """What is in the file; `text`, where there is none yet."""
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
    return path.read_text("ascii")


def main() -> None:
    here = Path(__file__).resolve().parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "secrets"
    make(folder)
    environment = here / ".env"
    if folder == here / "secrets" and not environment.exists():
        environment.write_text(f"HPO_UID={os.getuid()}\n")
    print(f"secrets: {', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}")


if __name__ == "__main__":
    main()
