"""The command line: parse, call one library function, print. Each command is a file of its own.

Exit codes: 0 every required check passed; 1 a wrong, refused or fallen-back runtime; 2 usage, or a place that
cannot be written; 3 input not loadable, not supported or damaged; 4 a required runtime crashed, timed out, ran
out of memory, is broken, or is absent although required; 5 nothing was checked; 70 internal error; 130
interrupted.
"""

import errno
import os
import signal
import sys
from importlib import import_module

import click

from rnn_export.errors import RnnExportError

COMMANDS = {
    "demo": "The notebook's network, by torch and by the ONNX file, each with its verdict.",
    "inspect": "Say what is inside a checkpoint or an ONNX file.",
    "export": "Make an ONNX artifact from a checkpoint.",
    "verify": "Prove that runtimes compute the network.",
    "ship": "Make a bundle for an inference server, or check a model repository.",
    "serve": "Run a real inference server on a bundle, on this machine.",
    "probe": "Prove that a live server computes the network.",
    "check": "Check that a folder is whole: every file against its manifest.",
    "sign": "Sign a folder, so that others can check who made it.",
    "bench": "Measure how fast every form is on every runtime.",
    "report": "Render the result of a verification in other formats.",
    "ci": "Export and verify every network of a project: for continuous integration.",
    "reproduce": "Shrink a failure to a folder for the runtime's maintainers.",
    "explain": "Say what a finding means and what to do.",
    "list": "List the forms that a network can be drawn in.",
    "runtimes": "List the runtimes, or install one.",
    "doctor": "Check this machine, and print what a bug report needs.",
}
INTERNAL_ERROR, INTERRUPTED, TERMINATED = 70, 130, 143


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that --help costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = "list_forms" if cmd_name == "list" else cmd_name
        command: click.Command = import_module(f"rnn_export.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        if args and args[0] not in COMMANDS and (close := get_close_matches(args[0], COMMANDS, n=1)):
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {close[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_versions(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, a third of what --help takes

    for name in ("rnn-export", "torch", "onnx", "onnxruntime", "numpy"):
        try:
            click.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"{name} not installed")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print versions.",
)
def group() -> None:
    """Export PyTorch RNNs to ONNX, and prove that every runtime computes the same network."""


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that temporary folders are removed
    try:
        code = group.main(prog_name="rnn-export", standalone_mode=False)
    except RnnExportError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader is gone, as with `| head`
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            _report_internal_error()
            sys.exit(INTERNAL_ERROR)
        _fail("standard output cannot be written: no space left", 2)
    except Exception:
        _report_internal_error()
        sys.exit(INTERNAL_ERROR)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    # what a foreign file calls its tensors must not steer the terminal
    said = "".join(character if character.isprintable() or character == "\n" else "?" for character in message)
    click.echo(f"rnn-export: error: {said}", err=True)
    sys.exit(code)


def _report_internal_error() -> None:
    import traceback

    click.echo(traceback.format_exc(), err=True)
    click.echo(
        "rnn-export: internal error: this is a bug. Please report the lines above with `rnn-export doctor`",
        err=True,
    )
