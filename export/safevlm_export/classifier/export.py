"""From an existing image classifier to a proven bundle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safevlm_export.classifier.activation import check_activation
from safevlm_export.classifier.from_onnx import OnnxOriginal
from safevlm_export.classifier.label_map import LabelMap, load_label_map, risks_of
from safevlm_export.classifier.meaning import Meaning, meaning_of
from safevlm_export.classifier.original import Original
from safevlm_export.classifier.reference import classifier_vectors
from safevlm_export.classifier.wrap import PREFIX, wrap
from safevlm_export.export import ExportOptions, check_options
from safevlm_export.finish import finish, shipped_policy
from safevlm_export.manifest_parts import HALF, listed_files
from safevlm_export.precision.lowering import prove_lowered, wishes_of
from safevlm_export.proof_images import ProofImages, proof_images
from safevlm_export.proving import Judgement, Proven, opened_graph
from safevlm_export.report import ExportReport
from safevlm_export.trt.step import check_trt, with_trt
from safevlm_sdk.atomic import require_publishable
from safevlm_sdk.bundle_writer import is_bundle
from safevlm_sdk.decision import Rule
from safevlm_sdk.errors import ExportError, LabelMapError
from safevlm_sdk.manifest import Calibration, Identity, Manifest, Proof, Thresholds, ViewPlan
from safevlm_sdk.strict import canonical_json, digest
from safevlm_sdk.taxonomy import SAFE, Taxonomy

NOT_STATED = "Never calibrated: the thresholds are placeholders."
STATED = "They stand in the label map; the temperature is 1."
NO_THRESHOLDS = "the label map states no thresholds: set them with `safevlm calibrate BUNDLE --safe DIR`"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wish:
    """What is to become a bundle, but for the classifier itself.

    Attributes:
        found: The label map.
        taxonomy: Its taxonomy.
        digest: Of the map's bytes.
        where: The map's name in messages.
        out: The bundle's folder.
        license: SPDX expression of the weights.
        calibration_data: A folder of real images.
        options: How.
    """

    found: LabelMap
    taxonomy: Taxonomy
    digest: str
    where: str
    out: Path
    license: str
    calibration_data: Path
    options: ExportOptions


def export_from_onnx(model: Path, label_map: Path, out: Path, options: ExportOptions) -> ExportReport:
    """Makes a bundle of an ONNX file that is an image classifier.

    Args:
        model: The file; its operator set stays as it is.
        label_map: What its labels mean.
        out: The bundle's folder; only a bundle there is replaced.
        options: How; `calibration_data` is needed.

    Raises:
        LabelMapError: The map is not valid or does not fit the model.
        PolicyError: The policy is not valid.
        ProofFailed: The bundle's graph does not decide as the file does; `out` is untouched.
        ExportError: Anything else that stands in the way.
        BundleError: The runtime refuses what was written; `out` is untouched.
    """
    wish = _wish(label_map, out, options)
    return _export(OnnxOriginal(model, wish.found, wish.where), wish)


def export_from_hf(model: str, label_map: Path, out: Path, options: ExportOptions) -> ExportReport:
    """Makes a bundle of a Hugging Face image classifier, given by id or folder; otherwise as `export_from_onnx`."""
    from safevlm_export.classifier.from_hf import HubOriginal

    wish = _wish(label_map, out, options)
    return _export(HubOriginal(model, wish.found, wish.where, opset=options.opset), wish)


def _wish(label_map: Path, out: Path, options: ExportOptions) -> Wish:
    check_options(options)
    _refuse_parts(options)
    require_publishable(out, is_bundle, error=ExportError)
    check_trt(options.trt, out)
    found, taxonomy, text = load_label_map(label_map)
    license = options.license or found.license
    if license is None or not license.strip():
        raise LabelMapError(
            f"{label_map}: states no license; write the SPDX expression of the weights' license, or give --license"
        )
    if options.calibration_data is None:
        raise ExportError(
            "--calibration-data is missing: a classifier that was trained elsewhere is proven on real images; give a "
            "folder of such as the gate will judge"
        )
    return Wish(
        found=found,
        taxonomy=taxonomy,
        digest=digest(text),
        where=str(label_map),
        out=out,
        license=license,
        calibration_data=options.calibration_data,
        options=options,
    )


def _refuse_parts(options: ExportOptions) -> None:
    given = {
        "--components": options.components,
        "--embeddings": options.embeddings,
        "--uint8-input": options.uint8_input,
    }
    wrong = [option for option, asked in given.items() if asked]
    if wrong:
        raise ExportError(f"{', '.join(wrong)}: belongs to checkpoints, and this is a classifier; leave it out")


def _export(original: Original, wish: Wish) -> ExportReport:
    risks = risks_of(wish.found, wish.taxonomy)
    policy_text, policy = shipped_policy(wish.options.policy, wish.taxonomy, risks)
    meaning = meaning_of(wish.found, wish.taxonomy, original.labels)
    images = proof_images(wish.calibration_data, max_side=wish.found.raster_max_side)
    check_activation(original, meaning, images.load(), wish.where)
    judgement = Judgement(rule=_rule(meaning, wish.found), policy=policy, max_flips=wish.options.max_flips)
    identity = Identity(
        tower=original.name,
        tower_digest=original.digest,
        checkpoint_digest=digest(canonical_json({"classifier": original.digest, "label_map": wish.digest})),
        tap=None,
        grid=None,
        feature_width=None,
    )
    proven = _proven(original, meaning, images, judgement, identity, wish.options)
    manifest = _manifest(original, wish, identity, proven, judgement.rule, images)
    warnings = () if wish.found.thresholds is not None else (NO_THRESHOLDS,)
    return with_trt(
        wish.options.trt,
        manifest,
        proven,
        lambda made, ready: finish(wish.out, made, ready, judgement, policy_text, warnings=warnings),
    )


def _proven(
    original: Original,
    meaning: Meaning,
    images: ProofImages,
    judgement: Judgement,
    identity: Identity,
    options: ExportOptions,
) -> Proven:
    metadata = {"classifier": identity.tower_digest, "checkpoint": identity.checkpoint_digest, "role": "gate"}
    wrapped = wrap(original.model(), original.form, meaning, metadata)
    head_from = PREFIX + original.form.output
    exported = opened_graph("gate", wrapped.inputs, wrapped.outputs, wrapped.data, head_from=head_from)
    wishes = wishes_of(options.precisions, tensorrt=options.trt is not None)
    reference = partial(classifier_vectors, original, meaning)
    try:
        return prove_lowered(reference, [exported], images, judgement, wishes, openvino=options.openvino)
    finally:
        exported.backend.close()


def _manifest(
    original: Original, wish: Wish, identity: Identity, proven: Proven, rule: Rule, images: ProofImages
) -> Manifest:
    stated = wish.found.thresholds is not None
    try:
        return Manifest(
            schema_version=1,
            digest="",
            name=wish.options.name or wish.found.name,
            license=wish.license,
            identity=identity,
            taxonomy=wish.taxonomy,
            coverage=wish.found.coverage,
            labels=rule.labels,
            activation=rule.activation,
            preprocessing=original.preprocessing,
            view_plan=ViewPlan(raster_max_side=wish.found.raster_max_side, tile=None, overlap=0, max_views=1),
            calibration=Calibration(
                method="stated" if stated else "none",
                temperature=rule.temperature,
                risky_groups=0,
                safe_groups=0,
                note=STATED if stated else NOT_STATED,
            ),
            thresholds=Thresholds(categories=dict(rule.thresholds), any=rule.any_threshold),
            graphs=proven.graphs,
            proof=Proof(
                kind="decisions" if stated else "numeric",
                source=f"{images.source}; the original ran in {original.engine}",
                graphs={graph: result.proof for graph, result in proven.results.items()},
            ),
            files=listed_files(proven.graphs),
        )
    except ValueError as problem:
        raise LabelMapError(f"{wish.where}: {problem}") from problem


def _rule(meaning: Meaning, found: LabelMap) -> Rule:
    risks = [label for label in meaning.labels if label != SAFE]
    given = found.thresholds or Thresholds(categories=dict.fromkeys(risks, HALF), any=HALF)
    return Rule(
        labels=meaning.labels,
        activation=meaning.activation,
        temperature=1.0,
        thresholds=given.categories,
        any_threshold=given.any,
    )
