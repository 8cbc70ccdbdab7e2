"""``rnn-export sign``."""

import os
import shlex
from pathlib import Path

import click

from rnn_export.cli._options import say


@click.command("sign")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--private-key", required=True, type=click.Path(path_type=Path), help="A PEM file: P-256, P-384 or P-521."
)
@click.option("--signature", type=click.Path(path_type=Path), help="The file to write; DIR.sig if not said.")
def command(folder: Path, private_key: Path, signature: Path | None) -> None:
    """Sign DIR, an artifact, a whole model's folder or a bundle, with a key of your own.

    The signature is a file beside the folder, in the format of OpenSSF's model-signing. `rnn-export check DIR
    --public-key FILE` checks it. It covers every file but verification.json, which every verification writes anew.
    The password of an encrypted key is read from RNN_EXPORT_KEY_PASSWORD.

    \b
    Examples:
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out public.pem
      rnn-export sign out --private-key key.pem
      rnn-export check out --public-key public.pem
    """
    from rnn_export.signing import sign

    place = sign(folder, private_key, signature, os.environ.get("RNN_EXPORT_KEY_PASSWORD"))
    where = f" --signature {shlex.quote(str(signature))}" if signature else ""
    say(f"{folder} is signed; check it with: rnn-export check {shlex.quote(str(folder))} --public-key FILE{where}")
    click.echo(place)
