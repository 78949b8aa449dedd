"""MLflow's server for a team: passwords, PostgreSQL behind it, artifacts in S3. Secrets come from files, never from
the command line, where everybody on the machine could read them.

HPO_SECRETS          the folder with mlflow_password, mlflow_flask_key, pgpass and s3_credentials (/run/secrets)
HPO_DATABASE         postgresql+psycopg2://USER@HOST/DATABASE, for runs and for users
HPO_BUCKET           made where it is not there (mlflow)
MLFLOW_S3_ENDPOINT_URL
HPO_LISTEN, HPO_HOSTS  host:port to listen at (0.0.0.0:5000); the names under which clients know it, by comma

For every start the same: it makes what is missing, then becomes the server.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

ADMIN = "hpo"
AUTH = """\
[mlflow]
default_permission = READ
database_uri = {database}
admin_username = {admin}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""
WAIT_SECONDS = 60.0


def main() -> None:
    folder = Path(os.environ.get("HPO_SECRETS", "/run/secrets"))
    database = os.environ["HPO_DATABASE"]
    bucket = os.environ.get("HPO_BUCKET", "mlflow")
    host, _, port = os.environ.get("HPO_LISTEN", "0.0.0.0:5000").rpartition(":")
    os.environ["PGPASSFILE"] = str(folder / "pgpass")
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(folder / "s3_credentials")
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = (folder / "mlflow_flask_key").read_text("ascii")
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # nobody runs code here
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"  # clients see MLflow, and not S3
    make_bucket(bucket)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = write_users(database, (folder / "mlflow_password").read_text("ascii"))
    own = f"127.0.0.1:{port},localhost:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"),
        *("--backend-store-uri", database, "--artifacts-destination", f"s3://{bucket}"),
        *("--host", host, "--port", port, "--workers", "2"),
        *("--allowed-hosts", ",".join(filter(None, [os.environ.get("HPO_HOSTS"), own]))),
    ]
    os.execv(command[0], command)


def make_bucket(name: str) -> None:
    """Wait for S3, and make the bucket unless it is there."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if name not in [own["Name"] for own in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=name)
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > end:
                raise SystemExit(f"S3 at {os.environ['MLFLOW_S3_ENDPOINT_URL']} does not answer: {error}") from None
            time.sleep(1.0)


def write_users(database: str, password: str) -> str:
    """The file that says where users are kept and who is the first one; for this user's eyes only."""
    handle, name = tempfile.mkstemp(prefix="mlflow-auth-", suffix=".ini")
    with open(handle, "w", encoding="ascii") as file:
        file.write(AUTH.format(database=database, admin=ADMIN, password=password))
    return name


if __name__ == "__main__":
    main()
