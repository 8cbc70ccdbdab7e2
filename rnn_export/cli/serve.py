"""``rnn-export serve``."""

import shlex
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import click

from rnn_export.cli._options import say, working


@click.command("serve")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--http-port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="0 for any free one.")
@click.option(
    "--explicit",
    is_flag=True,
    help="Triton also takes models over the network, as ship --push sends them: whoever reaches the port can then load "
    "code, and the server runs it.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86400, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds until it has to be ready.",
)
@click.option(
    "--log", type=click.Path(path_type=Path, dir_okay=False), help="Keep what the server prints in this file."
)
def command(folder: Path, http_port: int, grpc_port: int, explicit: bool, timeout: float, log: Path | None) -> int:
    """Run the real server that the bundle or model repository DIR is for, until Ctrl-C.

    It listens on 127.0.0.1 alone. A model.py in DIR is code: the server runs it.

    \b
    Examples:
      rnn-export serve bundle
      rnn-export serve bundle --http-port 0 --grpc-port 0
    """
    from rnn_export.server import run_server

    started = time.monotonic()
    with ExitStack() as stack:
        with working(f"starting the server for {folder}"):
            server = stack.enter_context(
                run_server(
                    folder, http_port=http_port, grpc_port=grpc_port, explicit=explicit, timeout=timeout, log=log
                )
            )
        took = time.monotonic() - started
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # from here on to be told to end is how it ends
        with suppress(KeyboardInterrupt):
            names, kind = ", ".join(server.served.names) or "nothing yet", server.served.server
            click.echo(f"{kind} serves {names} at {server.url} and {server.grpc_url}, ready after {took:.1f} s")
            artifact = shlex.quote(str(folder)) if server.served.bundle else "ARTIFACT"
            for name in server.served.names[:1]:
                say(f"next: rnn-export probe {server.url} --model {name} --artifact {artifact}; Ctrl-C ends this")
            server.wait()
    return 0
