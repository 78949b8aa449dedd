"""A process that has imported everything, and forks a driver or a check whenever it is asked to.

What is forked is a process like any other: it can be killed, stopped and limited. Only its imports cost nothing, which
is what makes many injections affordable.

    stdin   {"id": 1, "program": "run", "arguments": [...], "env": {...}, "out": FILE, "cwd": DIR, "runner": "inline"}
    stdout  {"id": 1, "pid": 4711}, and later {"id": 1, "code": 0}: negative for the signal that ended it
"""

import json
import os
import resource
import select
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


PRELOADED = (
    "matplotlib.pyplot",
    "matplotlib.figure",
    "plotly.graph_objects",
    "plotly.subplots",
    "plotly.offline",
    "rich.live",
    "rich.progress",
    "sklearn.metrics",
    "scipy.stats",
    "scipy.special",
    "pandas",
    "pyarrow.csv",
    "pyarrow.parquet",
    "datasets",
    "evaluate",
    "requests",
    "optuna.samplers",
    "optuna.importance",
    "optuna.visualization",
    "sqlalchemy.dialects.sqlite",
    "mlflow.transformers",
    "mlflow.models",
    "mlflow.artifacts",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "ray.tune",
    "torch",
    "torch._dynamo",
    "transformers.pipelines",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "safetensors.torch",
)


def preload() -> None:
    """What a driver, a trial and a check import on their way, and all of our own."""
    import importlib
    import pkgutil

    import hpo

    own = [found.name for found in pkgutil.walk_packages(hpo.__path__, "hpo.")]
    for name in (*PRELOADED, *own, "programs"):
        importlib.import_module(name)
    import transformers

    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForSequenceClassification", "BertTokenizerFast"):
        getattr(transformers, name)
    from hpo.tasks import metrics

    metrics.compute("accuracy", *[__import__("numpy").zeros(2, "int64")] * 2)


def child(asked: dict[str, Any]) -> int:
    """The exit code of what was asked for."""
    os.setsid()
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    if asked.get("clock"):
        real = time.time
        time.time = lambda: real() + asked["clock"]  # as if somebody had set the machine's clock
    if asked.get("file_bytes"):
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"], asked["file_bytes"]))
    import programs

    return programs.main(asked["program"], asked["arguments"], asked.get("runner", "ray"), asked.get("trial"))


def serve() -> None:
    preload()
    print(json.dumps({"id": 0, "pid": os.getpid()}), flush=True)
    running: dict[int, int] = {}
    buffered = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.02)
        if ready:
            block = os.read(0, 65_536)
            if not block:
                return
            *lines, buffered = (buffered + block).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        code = child(asked)
                    except SystemExit as error:
                        code = error.code if isinstance(error.code, int) else 1
                    except BaseException:
                        import traceback

                        traceback.print_exc()
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
                running[pid] = asked["id"]
                print(json.dumps({"id": asked["id"], "pid": pid}), flush=True)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid in running:
                print(json.dumps({"id": running.pop(pid), "code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
