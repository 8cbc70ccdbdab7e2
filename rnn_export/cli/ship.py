"""``rnn-export ship``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnn_export.cli._options import progress, say
from rnn_export.cli._reporting import deliver, errors_reported, files_option, format_option

if TYPE_CHECKING:
    from rnn_export.bundle import Bundle


@click.command("ship")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--target", help="The server: triton, triton-python, kserve, seldon, ovms, mlserver, ray-serve or onnx.")
@click.option("--name", help="Of the model on the server; that of the artifact's folder if not said.")
@click.option("--stateless", is_flag=True, help="Each request is a whole sequence (default).")
@click.option("--streaming", is_flag=True, help="The server carries the state, or else the client.")
@click.option("--client-state", is_flag=True, help="The client sends h_0 and gets h_n.")
@click.option(
    "--initial-state", type=click.Path(path_type=Path), help="An .npz with a learned h_0 (L*D, H); else zeros."
)
@click.option("--max-batch", type=int, default=32, show_default=True, help="The most rows in one run.")
@click.option(
    "--triton-release", help="Such as 25.10: verify with its ONNX Runtime, and draw no operator too new for it."
)
@click.option("--unverified", is_flag=True, help="Ship an artifact that was never verified; the card says so.")
@click.option("--verified-by", type=click.Path(path_type=Path), help="A result of verify --report FILE.json.")
@click.option("--check", "repository", type=click.Path(path_type=Path), help="Check a model repository instead.")
@click.option("--push", metavar="URL", help="Then load it into this Triton, which runs in explicit mode, and probe it.")
@click.option("--allow-code", is_flag=True, help="Also push a model.py: the server runs it.")
@click.option("--replace", is_flag=True, help="Also push over a model of the same name.")
@format_option
@files_option("--report")
def command(
    artifact: Path | None,
    output: Path | None,
    target: str | None,
    name: str | None,
    stateless: bool,
    streaming: bool,
    client_state: bool,
    initial_state: Path | None,
    max_batch: int,
    triton_release: str | None,
    unverified: bool,
    verified_by: Path | None,
    repository: Path | None,
    push: str | None,
    allow_code: bool,
    replace: bool,
    style: str,
    files: tuple[Path, ...],
) -> int:
    """Make a bundle for an inference server from ARTIFACT, a folder made by `rnn-export export`.

    \b
    Examples:
      rnn-export ship my-rnn --target triton -o bundle
      rnn-export ship my-rnn --target triton-python --streaming -o bundle
      rnn-export ship my-rnn --target triton --triton-release 25.10 -o bundle
      rnn-export ship --check model-repository
      rnn-export ship bundle --push http://127.0.0.1:8000
    """
    asked = {"stateless": stateless, "streaming": streaming, "client-state": client_state}
    modes = [name for name, chosen in asked.items() if chosen] or ["stateless"]
    if len(modes) > 1:
        raise click.UsageError(f"--{modes[0]} and --{modes[1]} are two ways to ship: choose one")
    if repository is not None:
        from rnn_export.repository.checking import check_repository

        with errors_reported(style, files):
            if (artifact, output, target, push) != (None, None, None, None):
                raise click.UsageError("--check DIR ships nothing: leave ARTIFACT, --target, -o and --push out")
            report = check_repository(repository, release=triton_release)
        deliver(report, style, files)
        return report.exit_code
    if artifact is None:
        raise click.UsageError("Name an ARTIFACT to ship, or a repository with --check DIR")
    from rnn_export.bundle import Bundle, is_bundle

    if is_bundle(artifact):
        if push is None or target is not None or output is not None:
            raise click.UsageError(f"{artifact} is a bundle already: load it with --push URL, or run rnn-export serve")
        bundle = Bundle.load(artifact)
    else:
        if target is None or output is None:
            raise click.UsageError("ship needs --target NAME and -o DIR")
        from rnn_export.shipping import Order, ship

        order = Order(target, name, modes[0], max_batch, initial_state, triton_release)
        with progress() as tell:
            bundle = ship(artifact, output, order, unverified=unverified, report=verified_by, progress=tell)
        _say_what_was_made(bundle, output)
    if push is None:
        return 0
    from rnn_export.pushing import push as load

    with errors_reported(style, files), progress() as tell:
        report = load(bundle, push, allow_code=allow_code, replace=replace, progress=tell)
    deliver(report, style, files)
    return report.exit_code


def _say_what_was_made(bundle: "Bundle", output: Path) -> None:
    from rnn_export.serving import STATES
    from rnn_export.targets import TARGETS

    facts = bundle.facts
    proof, sides = facts.proof, (facts.interface.sent, facts.interface.outputs)
    words = " -> ".join(", ".join(tensor.name for tensor in tensors) for tensors in sides)
    residual = "" if proof.residual is None else f", residual {proof.residual:.2f}"
    click.echo(
        f"{output}: {facts.name} for {facts.target}, {STATES[facts.interface.state]}, {words}; "
        f"verified on {proof.runtime} {proof.version}: {proof.cases} cases{residual}"
    )
    say(f"next: {TARGETS.get(facts.target).serve.replace('DIR', shlex.quote(str(output)))}")
