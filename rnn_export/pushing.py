"""Loading a bundle into a Triton that takes models over the network, and proving what it then answers."""

import re

from rnn_export.bundle import Bundle
from rnn_export.child import Failure
from rnn_export.errors import ServingError, UsageError
from rnn_export.live_server.endpoint import Endpoint, read_folder, server_runtime
from rnn_export.live_server.probing import TIMEOUT, probe
from rnn_export.model_config import as_json, parse_config
from rnn_export.report import Report
from rnn_export.repository.other_programs import other_program
from rnn_export.runtimes import Runtime
from rnn_export.server_address import ServerAddress
from rnn_export.verification import Progress

# What the backend onnxruntime reads, as data, and what our model.py adds to it; anything else Triton might run.
_DATA = re.compile(r"1/model\.onnx(\.data)?|initial_state/h_0|warmup/lengths")
_CODE = re.compile(r"1/(model\.py|h_0)")


def push(
    bundle: Bundle,
    url: str,
    *,
    allow_code: bool = False,
    replace: bool = False,
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> Report:
    """Load a bundle into a running Triton and probe it there.

    Args:
        bundle: made for Triton.
        url: of a Triton that was started with --model-control-mode=explicit.
        allow_code: also send a model.py, which the server will run.
        replace: also where the server has a model of that name already.
        timeout: seconds for a request.
        progress: told after every case of the probe.

    Returns:
        The probe's report. A model that fails it is taken out of the server again.

    Raises:
        UsageError: the bundle is not for Triton, holds code that nobody allowed, or would replace another model.
        ServingError: the server refused it, or what was refused its proof could not be taken out again.
    """
    name = bundle.facts.name
    config, files = _content(bundle, allow_code)
    runtime = server_runtime(ServerAddress(url))
    if not replace and _has(ServerAddress(url, name), timeout):
        raise UsageError(
            f"the server at {url} has a model {name} already", "Say --replace, or ship it with another --name"
        )
    try:
        with Endpoint(runtime, timeout) as endpoint:
            endpoint.connect()
            endpoint.load(name, config, {f"file:{place}": content for place, content in files.items()})
    except Failure as failure:
        hint = "It has to run with --model-control-mode=explicit, as rnn-export serve DIR --explicit does"
        if "backend" in failure.detail:
            hint = "Ship it --target triton-python, for a Triton that has the python backend alone"
        raise ServingError(f"the server at {url} did not load {name}: {failure.detail}", hint) from None
    proved = False
    try:
        report = probe([url], name, bundle.path, seconds=0, timeout=timeout, progress=progress)
        proved = report.exit_code == 0
        return report
    finally:
        if not proved:
            _take_out(runtime, url, name, timeout)


def _content(bundle: Bundle, allow_code: bool) -> tuple[str, dict[str, bytes]]:
    """The configuration as JSON, and the other files by their places in the model's folder."""
    folder = bundle.path / "models" / bundle.facts.name
    if not (folder / "config.pbtxt").is_file():
        what = f"{bundle.path} is for {bundle.facts.target}, and nothing can be pushed to that"
        raise UsageError(what, "Ship it --target triton")
    files = read_folder(folder)
    config = parse_config(files.pop("config.pbtxt").decode(), strict=True)
    strange = [place for place in files if not _DATA.fullmatch(place)]
    foreign = [place for place in strange if not _CODE.fullmatch(place)]
    if reason := other_program(folder, "1", config.backend, config):
        raise UsageError(f"{bundle.path}: {reason}", "That is nothing that ship puts there: ship the artifact again")
    if foreign or (strange and config.backend != "python") or config.backend not in ("python", "onnxruntime"):
        what = f"{(foreign or strange or [config.backend])[0]} of {bundle.path} is nothing that ship puts there"
        raise UsageError(what, "Ship the artifact again")
    if (strange or config.backend == "python") and not allow_code:
        what = f"{bundle.path} holds {(strange or ['model.py'])[-1]}, which the server would run"
        raise UsageError(what, "Say --allow-code, or ship it --target triton")
    return as_json(config), files


def _has(address: ServerAddress, timeout: float) -> bool:
    """Whether the server has the model; one that does not answer says so when it is sent one."""
    try:
        with Endpoint(server_runtime(address), timeout) as endpoint:
            endpoint.connect()
            return True
    except Failure:
        return False


def _take_out(runtime: Runtime, url: str, name: str, timeout: float) -> None:
    try:
        with Endpoint(runtime, timeout) as endpoint:
            endpoint.connect()
            endpoint.unload(name)
    except Failure as failure:
        raise ServingError(
            f"{name} did not pass its probe, and could not be taken out of the server at {url}: {failure.detail}",
            "It may still be served: unload it there",
        ) from None
