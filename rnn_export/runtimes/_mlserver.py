"""MLServer, the Python server of the Open Inference Protocol, started on a folder of models."""

import json
from pathlib import Path

from rnn_export.runtimes._launching import HOST, Process, launched


def start_mlserver(
    environment: Path, models: Path, *, http: int, grpc: int, leads: bool = True, scratch: Path, log: Path
) -> Process:
    """Start MLServer on this machine's own address.

    Args:
        environment: the prefix of the virtual environment that holds mlserver.
        models: a folder with a model-settings.json in it or further below, for each model; it stays as it is.
        http, grpc: the ports.
        leads: it leads a process group of its own.
        scratch: an empty folder that lasts as long as the server.
        log: where its output goes.
    """
    settings = {
        "host": HOST,
        "http_port": http,
        "grpc_port": grpc,
        "metrics_endpoint": None,
        "parallel_workers": 0,  # none beside the server: a model is in its own process
        "environments_dir": str(scratch / "environments"),
        "grpc_max_message_length": 2**31 - 1,  # gRPC's own limit is 4 MiB
        "debug": False,
    }
    # A folder of its own around the models: settings beside them would win over these.
    root = scratch / "root"
    root.mkdir()
    (root / "settings.json").write_text(json.dumps(settings))
    (root / "models").symlink_to(models.resolve(), target_is_directory=True)
    # Not its script: that names the Python of the place where the environment was made
    line = [
        str(environment / "bin" / "python"),
        "-P",
        "-c",
        "from mlserver.cli import main; main()",
        "start",
        str(root),
    ]
    # Bytecode beside a model would be a file more in a bundle, which is checked against its manifest
    environ = {"PYTHONDONTWRITEBYTECODE": "1"}
    return launched(line, log, environ, leads=leads, cwd=scratch, without=("MLSERVER_",))
