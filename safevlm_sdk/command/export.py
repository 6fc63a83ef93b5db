"""`safevlm export`, also installed as `safevlm-export`: from a checkpoint or a classifier to a bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from safevlm_sdk.command.extras import needs
from safevlm_sdk.command.printing import printable


def export(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CHECKPOINT] OUT",
            help="The SafeVLM checkpoint's folder, unless --from-onnx or --from-hf is given; and the bundle's "
            "folder, where an older bundle is replaced atomically.",
        ),
    ],
    from_onnx: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="An image classifier as ONNX file; needs --labels.")
    ] = None,
    from_hf: Annotated[
        str | None, typer.Option(metavar="ID|FOLDER", help="A Hugging Face image classifier; needs --labels.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="MAP.toml", help="What its labels mean (docs/any_classifier.md).")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, from 18 on; not for --from-onnx.")] = 18,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            help="A folder of real images for the proof; a classifier needs one.", show_default="generated examples"
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(metavar="P,…", help="Of fp32, fp16, bf16, int8, w8, w4; fp32 is always there (docs/export.md)."),
    ] = "fp32",
    max_flips: Annotated[int, typer.Option(help="Refuse a graph that changed more decisions than this.")] = 0,
    policy: Annotated[
        Path | None, typer.Option(help="The bundle's policy.", show_default="that of the taxonomy")
    ] = None,
    components: Annotated[
        bool, typer.Option("--components", help="Also tower, safety projector and head, each as a graph of its own.")
    ] = False,
    embeddings: Annotated[
        bool,
        typer.Option("--embeddings", help="Let the gate also give what a language model's engine takes."),
    ] = False,
    uint8_input: Annotated[
        bool, typer.Option("--uint8-input", help="Also a gate that takes uint8 RGB of any size, for other languages.")
    ] = False,
    trt: Annotated[
        bool,
        typer.Option("--trt", help="Build TensorRT engines, and write OUT-trt-kit to build others on their target."),
    ] = False,
    trt_flavor: Annotated[
        str | None,
        typer.Option(
            help="auto, enterprise or rtx.", show_default="auto: enterprise where it and a GPU are, else rtx"
        ),
    ] = None,
    trt_target: Annotated[
        str | None,
        typer.Option(
            metavar="SM,…", help="As sm86,sm89; current; or, for enterprise, ampere+.", show_default="sm86,sm89,sm120"
        ),
    ] = None,
    openvino: Annotated[
        bool,
        typer.Option("--openvino", help="Also OpenVINO's IR, in fp16 and what --precision names of bf16 and int8."),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="The bundle's name.", show_default="the checkpoint's or map's")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="SPDX expression of the weights.", show_default="as the name")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign with this private key (PEM); needs the extra `sign`.")
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Put the graphs into a Triton / KServe v2 model repository, too."),
    ] = None,
) -> None:
    """Export a checkpoint or a classifier to ONNX, prove that its decisions survived, and write the bundle."""
    checkpoint, out = _places(places, from_onnx, from_hf, labels)
    needs("export", "torch", "transformers", "safetensors", "onnx", "onnxscript")
    needs("cpu", "onnxruntime")
    signer = None if sign is None else import_module("safevlm_export.sign").key_signer(sign)
    module = import_module("safevlm_export.export")
    options = module.ExportOptions(
        opset=opset,
        calibration_data=calibration_data,
        max_flips=max_flips,
        precisions=tuple(name.strip() for name in precision.split(",")),
        policy=policy,
        name=name,
        license=license,
        trt=_trt_options(trt, trt_flavor, trt_target),
        components=components,
        embeddings=embeddings,
        uint8_input=uint8_input,
        openvino=openvino,
    )
    if checkpoint is not None:
        report = module.export_checkpoint(checkpoint, out, options)
    else:
        classifiers = import_module("safevlm_export.classifier.export")
        if from_onnx is not None:
            report = classifiers.export_from_onnx(from_onnx, labels, out, options)
        else:
            report = classifiers.export_from_hf(from_hf, labels, out, options)
    typer.echo(report.render())
    if signer is not None:
        _sign(out, signer)
    if triton is not None:
        bundle = import_module("safevlm_runtime.bundle.reader").read_bundle(out, digest=report.manifest.digest)
        typer.echo(import_module("safevlm_export.model_repository").write_model_repository(bundle, triton).render())


def sign_bundle(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder; an older signature there is replaced.")],
    key: Annotated[Path, typer.Option(help="The private key: PEM, on the curve P-256, P-384 or P-521.")],
) -> None:
    """Check a bundle and sign it, so that `safevlm verify --key` can tell whose it is."""
    _sign(bundle, import_module("safevlm_export.sign").key_signer(key))


def _sign(bundle: Path, signer: Any) -> None:
    digest = import_module("safevlm_export.sign").sign_bundle(bundle, signer)
    typer.echo(f"signed {digest}; check it with: safevlm verify {printable(str(bundle))} --key PUBLIC_KEY")


def _trt_options(trt: bool, flavor: str | None, target: str | None) -> Any:
    """What `--trt` was told, or None."""
    if not trt:
        if flavor is not None or target is not None:
            raise typer.BadParameter("--trt-flavor and --trt-target belong to --trt")
        return None
    targets = import_module("safevlm_export.trt.targets")
    return targets.TrtOptions(flavor=flavor or "auto", target=target, progress=_progress())


def _progress() -> Callable[[str, str, int, int], None]:
    """Says on standard error which engine is being built, and on a terminal how far it is."""
    begun: set[str] = set()

    def tell(engine: str, phase: str, done: int, steps: int) -> None:
        if engine not in begun:
            begun.add(engine)
            typer.echo(f"building {engine} …", err=True)
        if sys.stderr.isatty():
            typer.echo(f"\r\x1b[K{engine}: {phase} {done}/{steps}\r", err=True, nl=False)

    return tell


def _places(
    places: list[Path], from_onnx: Path | None, from_hf: str | None, labels: Path | None
) -> tuple[Path | None, Path]:
    """(checkpoint, out); no checkpoint where a classifier is exported."""
    classifiers = [option for option in (from_onnx, from_hf) if option is not None]
    if len(classifiers) > 1:
        raise typer.BadParameter("give --from-onnx or --from-hf, not both")
    if classifiers and labels is None:
        raise typer.BadParameter("--labels is missing: a classifier's labels mean nothing here without a map")
    if labels is not None and not classifiers:
        raise typer.BadParameter("--labels belongs to --from-onnx or --from-hf")
    wanted = ["OUT"] if classifiers else ["CHECKPOINT", "OUT"]
    if len(places) != len(wanted):
        raise typer.BadParameter(f"{len(places)} places are given; {' and '.join(wanted)} needed")
    return (None if classifiers else places[0]), places[-1]
