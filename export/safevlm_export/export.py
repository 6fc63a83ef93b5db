"""From a checkpoint to a proven bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from safevlm_export.embeddings import embeddings_of
from safevlm_export.finish import finish, shipped_policy
from safevlm_export.manifest_parts import identity_of, listed_files, rule_of, uncalibrated, view_plan_of
from safevlm_export.parts import Parts, reference_of
from safevlm_export.precision.lowering import prove_lowered, wishes_of
from safevlm_export.proof_images import proof_images
from safevlm_export.proving import Judgement, exported_graphs
from safevlm_export.report import ExportReport
from safevlm_export.to_onnx import MIN_OPSET, check_opset
from safevlm_export.trt.step import check_trt, with_trt
from safevlm_export.trt.targets import TrtOptions
from safevlm_runtime.backends.openvino_backend import load_openvino
from safevlm_sdk.atomic import require_publishable
from safevlm_sdk.bundle_writer import is_bundle
from safevlm_sdk.errors import ExportError
from safevlm_sdk.evaluation_record import EVALUATION_FILE, EvaluationRecord
from safevlm_sdk.manifest import Manifest, Precision, Proof
from safevlm_training.checkpoint import load_calibration, load_evaluation, load_naming
from safevlm_training.config import load_config
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel

UNTRAINED_TOKENS = (
    "the safety tokens were never trained with a language model: safety_embeddings are random numbers to it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export.

    Attributes:
        opset: ONNX operator set.
        policy: A TOML file to ship as the bundle's policy; None ships the default one for its taxonomy.
        calibration_data: A folder of images for the proof, beside the generated ones. None of them enters the bundle.
        max_flips: Refuse a graph that changes more decisions than this.
        precisions: What to export beside float32, which is always there.
        name: The bundle's name; None takes what training named, or else the checkpoint folder's.
        license: SPDX expression of the weights; None takes what training named.
        trt: Which engines of TensorRT to build; None builds none.
        components: Also export tower, safety projector and head, each as a graph of its own.
        embeddings: Let the gate also give safety embeddings and, from a vision-language model's tower, its image
            embeddings.
        uint8_input: Also export a gate that takes an image as it is decoded, with the preprocessing inside.
        openvino: Also write OpenVINO's IR: towers in fp16, and in bf16 and int8 where those are asked for.
    """

    opset: int = MIN_OPSET
    policy: Path | None = None
    calibration_data: Path | None = None
    max_flips: int = 0
    precisions: tuple[Precision, ...] = ("fp32",)
    name: str | None = None
    license: str | None = None
    trt: TrtOptions | None = None
    components: bool = False
    embeddings: bool = False
    uint8_input: bool = False
    openvino: bool = False


def export_checkpoint(checkpoint: Path, out: Path, options: ExportOptions) -> ExportReport:
    """Exports, proves, lets the runtime judge an image with what was written, and puts it in place.

    Args:
        checkpoint: A SafeVLM checkpoint's folder.
        out: The bundle's folder; only a bundle there is replaced.
        options: How.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        PolicyError: The policy is not valid, or no bundle could be loaded with it.
        ProofFailed: A graph does not decide as the checkpoint does; `out` is untouched.
        ExportError: Anything else that stands in the way; the message says whether `out` was changed.
        BundleError: The runtime refuses what was written; `out` is untouched.
    """
    check_options(options)
    if out.resolve().is_relative_to(checkpoint.resolve()):
        raise ExportError(f"{out}: lies in the checkpoint {checkpoint}; name a folder outside of it")
    require_publishable(out, is_bundle, error=ExportError)
    check_trt(options.trt, out)
    config = load_config(checkpoint)
    policy_text, policy = shipped_policy(options.policy, config.taxonomy, tuple(config.coverage))
    calibrated, trained = load_calibration(checkpoint), load_naming(checkpoint)
    measured = load_evaluation(checkpoint)
    with quiet():
        model = RiskModel.from_pretrained(checkpoint)
    decides = calibrated or uncalibrated(model.config)
    images = proof_images(options.calibration_data, max_side=model.config.raster_max_side)
    identity = identity_of(model.config, checkpoint)
    judgement = Judgement(rule=rule_of(model.config, decides), policy=policy, max_flips=options.max_flips)
    parts = Parts(
        embeddings=embeddings_of(model) if options.embeddings else None,
        components=options.components,
        rgb=options.uint8_input,
    )
    with exported_graphs(model, parts, checkpoint_digest=identity.checkpoint_digest, opset=options.opset) as exported:
        wishes = wishes_of(options.precisions, tensorrt=options.trt is not None)
        reference = reference_of(model, parts)
        proven = prove_lowered(reference, exported, images, judgement, wishes, openvino=options.openvino)
    manifest = Manifest(
        schema_version=1,
        digest="",
        name=options.name or trained.name or checkpoint.resolve().name,
        license=options.license or trained.license or "NOASSERTION",
        identity=identity,
        taxonomy=model.config.taxonomy,
        coverage=model.config.coverage,
        labels=model.config.labels,
        activation="softmax",
        preprocessing=model.config.preprocessing,
        view_plan=view_plan_of(model.config),
        calibration=decides.calibration,
        thresholds=decides.thresholds,
        graphs=proven.graphs,
        proof=Proof(
            kind="numeric" if calibrated is None else "decisions",
            source=images.source,
            graphs={graph: result.proof for graph, result in proven.results.items()},
        ),
        files=listed_files(proven.graphs),
    )
    evaluation, warnings = _of_this_checkpoint(measured, identity.checkpoint_digest)
    if options.embeddings and not model.config.llm_tokens_trained:
        warnings += (UNTRAINED_TOKENS,)
    return with_trt(
        options.trt,
        manifest,
        proven,
        lambda made, ready: finish(
            out, made, ready, judgement, policy_text, evaluation=evaluation, warnings=warnings
        ),
    )


def check_options(options: ExportOptions) -> None:
    """Refuses what no export can do.

    Raises:
        ExportError: With the option.
        MissingExtra: OpenVINO is not installed, and its IR is wanted.
    """
    check_opset(options.opset)
    if options.openvino:
        load_openvino()
    if options.max_flips < 0:
        raise ExportError(f"max_flips is {options.max_flips}; it must be at least 0")
    unknown = [name for name in options.precisions if name not in get_args(Precision)]
    if unknown:
        raise ExportError(f"precision {unknown[0]!r} is unknown; known are {', '.join(get_args(Precision))}")
    for option in ("name", "license"):
        given = getattr(options, option)
        if given is not None and not given.strip():
            raise ExportError(f"{option} is empty; give one, or leave it out to take the checkpoint's")


def _of_this_checkpoint(
    measured: EvaluationRecord | None, checkpoint: str
) -> tuple[EvaluationRecord | None, tuple[str, ...]]:
    """The evaluation, if its figures are this checkpoint's, and else a warning."""
    if measured is None or measured.checkpoint == checkpoint:
        return measured, ()
    warning = (
        f"{EVALUATION_FILE} was measured on the checkpoint {measured.checkpoint}, but this one is {checkpoint}: the "
        "card tells no evaluation; run `safevlm eval --card` and export again"
    )
    return None, (warning,)
