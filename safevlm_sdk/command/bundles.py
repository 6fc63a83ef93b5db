"""Which bundles a command judges by; `safevlm verify` and `safevlm inspect`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.command.printing import printable


def bundle_folders(bundle: list[Path] | None, starter: bool) -> tuple[str, ...]:
    """Absolute paths of the folders that --bundle names, then the starter's; without any, the starter's alone.

    Args:
        bundle: What --bundle was given, in its order.
        starter: Whether --starter was given.

    Raises:
        BundleMissing: The starter is wanted, and this installation has none.
    """
    folders = [] if bundle is None else list(bundle)
    if starter or not folders:
        folders.append(import_module("safevlm_runtime.bundle.loading").starter_folder())
    return tuple(str(folder.absolute()) for folder in folders)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    digest: Annotated[str | None, typer.Option(help="The digest it must have (sha256:…).")] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The public key (PEM) whose owner must have signed it; needs the extra `sign`."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="Who must have signed it by way of Sigstore: an e-mail address or a workflow.")
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="The OpenID issuer that vouches for the identity: a URL.")
    ] = None,
) -> None:
    """Check every file's hash, every graph's content, and that this machine reproduces the golden outputs.

    With --key or --identity, check first who signed it. Then pin the digest that is printed where it is loaded.
    """
    if key is not None and identity is not None:
        raise typer.BadParameter("give --key or --identity, not both")
    if (identity is None) != (issuer is None):
        raise typer.BadParameter("--identity and --issuer go together: an identity is worth as much as its issuer")
    signature = import_module("safevlm_runtime.bundle.signature")
    signer = None if key is None else signature.KeySigner(public_key=key)
    if identity is not None:
        signer = signature.IdentitySigner(identity=identity, issuer=issuer)
    report = import_module("safevlm_runtime.bundle.verify").verify_bundle(bundle, digest=digest, signer=signer)
    typer.echo(report.render())


def inspect(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, as JSON.")] = False,
) -> None:
    """Print what a bundle says of itself: what it looks for and from where, its graphs, its proof, its signature.

    Nothing of it is run; `safevlm verify` does that.
    """
    read = import_module("safevlm_runtime.bundle.reader").read_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(import_module("safevlm_runtime.bundle.verify").describe(read), indent=2))
        return
    for line in import_module("safevlm_runtime.bundle.summary").summary_lines(read):
        typer.echo(printable(line))
