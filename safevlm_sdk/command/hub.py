"""`safevlm pull` and `safevlm push`: bundles and checkpoints on the Hugging Face hub."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from safevlm_sdk.command.extras import needs
from safevlm_sdk.errors import OptionError

TRUSTED = (
    "no digest and no key were given: that this is the bundle its maker meant is the word of the hub and of whoever "
    "may write to the repository"
)


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub.")],
    out: Annotated[Path, typer.Argument(help="The bundle's folder; an older bundle there is replaced atomically.")],
    revision: Annotated[
        str, typer.Option(help="A commit, which cannot change; or a branch or tag, whose commit is printed.")
    ] = "main",
    digest: Annotated[str | None, typer.Option(help="The digest that it must have (sha256:…).")] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The public key (PEM) whose owner must have signed it; needs the extra `sign`."),
    ] = None,
) -> None:
    """Download a bundle from the Hugging Face hub, check every file of it, and put it in place as a whole.

    The hub is HF_ENDPOINT, the token HF_TOKEN or what `hf auth login` kept.
    """
    needs("hub", "huggingface_hub")
    signer = None
    if key is not None:
        signer = import_module("safevlm_runtime.bundle.signature").KeySigner(public_key=key)
    pulled = import_module("safevlm_runtime.hub.bundles").pull_bundle(
        repository, out, revision=revision, digest=digest, signer=signer
    )
    typer.echo(f"{pulled.repository}@{pulled.revision} is commit {pulled.commit}")
    typer.echo(f"{pulled.path}: {pulled.files} files, {pulled.size} bytes, {pulled.digest}")
    if not pulled.pinned and pulled.signer is None:
        typer.echo(f"warning: {TRUSTED}; verify it, then pin both:", err=True)
        typer.echo(
            f"  safevlm pull {pulled.repository} {pulled.path} --revision {pulled.commit} --digest {pulled.digest}",
            err=True,
        )


def push(
    folder: Annotated[Path, typer.Argument(help="A bundle, or a checkpoint.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub; made if need be.")
    ],
    revision: Annotated[str | None, typer.Option(help="The branch, made if need be.", show_default="main")] = None,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Of the repository.", show_default="as it is; a new one as its owner's are"
        ),
    ] = None,
) -> None:
    """Upload a bundle or a checkpoint to the Hugging Face hub in one commit, and print what whoever pulls it pins.

    The branch then holds these files and no older ones. A branch that holds something else is refused.
    """
    needs("hub", "huggingface_hub")
    client = import_module("safevlm_sdk.hub.client")
    target = client.Target(repository=repository, revision=revision, private=private)
    if (folder / "manifest.json").is_file():
        pushed, digest = import_module("safevlm_runtime.hub.bundles").push_bundle(folder, target)
        follow = f"safevlm pull {repository} OUT --revision {pushed.commit} --digest {digest}"
    elif (folder / "config.json").is_file():
        needs("train", "torch", "transformers", "safetensors")
        pushed, digest = import_module("safevlm_training.hub").push_checkpoint(folder, target)
        follow = f'from_pretrained("{repository}", revision="{pushed.commit}", digest="{digest}")'
    else:
        raise OptionError(f"{folder}: holds neither a bundle's manifest.json nor a checkpoint's config.json")
    typer.echo(f"{pushed.address}\n{follow}")
