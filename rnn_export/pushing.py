"""Loading a bundle into a Triton that takes models over the network, and proving what it then answers."""

from rnn_export.bundle import Bundle
from rnn_export.child import Failure
from rnn_export.errors import OutputError, UsageError
from rnn_export.live_server.endpoint import Endpoint, read_folder, server_runtime
from rnn_export.live_server.probing import TIMEOUT, probe
from rnn_export.model_config import as_json, parse_config
from rnn_export.report import Report
from rnn_export.server_address import ServerAddress
from rnn_export.verification import Progress


def push(
    bundle: Bundle, url: str, *, allow_code: bool = False, timeout: float = TIMEOUT, progress: Progress | None = None
) -> Report:
    """Load a bundle into a running Triton and probe it there.

    Args:
        bundle: made for Triton.
        url: of a Triton that was started with --model-control-mode=explicit.
        allow_code: also send a model.py, which the server will run.
        timeout: seconds for a request.
        progress: told after every case of the probe.

    Returns:
        The probe's report. A model that fails it is taken out of the server again.

    Raises:
        UsageError: the bundle is not for Triton, or holds code that nobody allowed.
        OutputError: the server refused it, in its own words.
    """
    folder = bundle.path / "models" / bundle.facts.name
    if not (folder / "config.pbtxt").is_file():
        raise UsageError(
            f"{bundle.path} is for {bundle.facts.target}, which nothing can be pushed to", "Ship it --target triton"
        )
    files = read_folder(folder)
    config = as_json(parse_config(files.pop("config.pbtxt").decode()))
    code = sorted(name for name in files if name.endswith(".py"))
    if code and not allow_code:
        raise UsageError(
            f"{bundle.path} holds {code[0]}, which the server would run", "Say --allow-code, or ship it --target triton"
        )
    name = bundle.facts.name
    runtime = server_runtime(ServerAddress(url))
    try:
        with Endpoint(runtime, timeout) as endpoint:
            endpoint.connect()
            endpoint.load(name, config, {f"file:{place}": content for place, content in files.items()})
    except Failure as failure:
        raise OutputError(
            f"the server at {url} did not load {name}: {failure.detail}",
            "It has to run with --model-control-mode=explicit, as rnn-export serve DIR --explicit does",
        ) from None
    report = probe([url], name, bundle.path, seconds=0, timeout=timeout, progress=progress)
    if report.exit_code:
        with Endpoint(runtime, timeout) as endpoint:
            endpoint.connect()
            endpoint.unload(name)
    return report
