"""``rnn-export probe``."""

from pathlib import Path

import click

from rnn_export.cli._options import progress
from rnn_export.cli._reporting import deliver, errors_reported, files_option, format_option


@click.command("probe")
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option(
    "--artifact", required=True, type=click.Path(path_type=Path), help="The bundle that it serves, or its artifact."
)
@click.option("--model", help="Its name on the server; the bundle's own if not said.")
@click.option("--clients", type=click.IntRange(min=2), default=64, show_default=True, help="At once.")
@click.option(
    "--load",
    "seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Seconds of load at every endpoint; 0 for none.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds per request.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds that the server may still take to be ready.",
)
@format_option
@files_option("--report")
def command(
    urls: tuple[str, ...],
    artifact: Path,
    model: str | None,
    clients: int,
    seconds: float,
    timeout: float,
    wait: float,
    style: str,
    files: tuple[Path, ...],
) -> int:
    """Prove that the live server at URL computes the network of a bundle made by `rnn-export ship`.

    Where only the artifact is at hand, --artifact takes it too, with --model as the server calls what was shipped.

    URL is http://HOST:PORT or grpc://HOST:PORT; give both and both are probed. Over HTTP it is asked in JSON, and with
    binary tensors where the server offers them.

    \b
    Examples:
      rnn-export probe http://127.0.0.1:8000 grpc://127.0.0.1:8001 --artifact bundle
      rnn-export probe http://127.0.0.1:8000 --artifact bundle --load 60 --report page.html
    """
    from rnn_export.bundle import Bundle, is_bundle
    from rnn_export.live_server.probe_table import print_probe
    from rnn_export.live_server.probing import probe

    with errors_reported(style, files):
        name = model or (Bundle.load(artifact).facts.name if is_bundle(artifact) else artifact.resolve().name)
        with progress() as tell:
            report = probe(
                urls, name, artifact, seconds=seconds, clients=clients, timeout=timeout, wait=wait, progress=tell
            )
    deliver(report, style, files, print_probe)
    return report.exit_code
