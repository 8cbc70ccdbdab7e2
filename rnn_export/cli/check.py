"""``rnn-export check``."""

from pathlib import Path

import click


@click.command("check")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--public-key", type=click.Path(path_type=Path), help="Check the signature too: a PEM file, see `sign`.")
@click.option("--signature", type=click.Path(path_type=Path), help="Where it is; DIR.sig if not said.")
@click.option("--format", "style", type=click.Choice(["human", "json"]), default="human", show_default=True)
def command(folder: Path, public_key: Path | None, signature: Path | None, style: str) -> int:
    """Check that DIR, an artifact, a whole model's folder or a bundle, is as it was made.

    Every file is held against the manifest: changed, swapped, missing, extra, renamed, linked, of another mode. All
    that is wrong is listed, and the exit code is then 3. Nothing of the folder is loaded. The sha256 of the manifest
    stands for the whole folder: note it elsewhere, or sign the folder, because who can change every file can also
    write a manifest that fits.

    \b
    Examples:
      rnn-export check out
      rnn-export check out --public-key public.pem
    """
    import json

    from rnn_export.integrity import check
    from rnn_export.summary import printable

    found = check(folder, public_key, signature)
    if style == "json":
        click.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        for line in found.lines():
            click.echo(printable(line))  # names come from the folder
    return 0 if found.whole else 3
