"""The model card of a bundle: what it claims, how that was proven, and how to load it."""

from __future__ import annotations

from collections.abc import Sequence

from safevlm_sdk.calibration.note import other_policy
from safevlm_sdk.calibration.record import CalibrationRecord
from safevlm_sdk.card_header import card_header
from safevlm_sdk.evaluation_card import evaluation_section, plain
from safevlm_sdk.evaluation_record import EvaluationRecord
from safevlm_sdk.manifest import DECISION_OUTPUTS, GraphProof, Manifest
from safevlm_sdk.policy import Policy
from safevlm_sdk.view_plan import ViewPlan

UNCALIBRATED = """Not calibrated: its probabilities and decisions mean nothing yet, and it loads only with
`allow_uncalibrated=True`."""
STATED = """The thresholds were stated by whoever exported the bundle; nothing in it shows how often they err. Set
your own with `safevlm calibrate`."""


def bundle_card(manifest: Manifest, policy: Policy, evaluation: EvaluationRecord | None = None) -> str:
    """Markdown with the metadata header of the Hugging Face Hub.

    Args:
        manifest: May still lack its digest and its files.
        policy: The bundle's own.
        evaluation: Of the very checkpoint that was exported, at the thresholds of the manifest.
    """
    plan = manifest.view_plan
    absent = [name for name in manifest.taxonomy.categories if name not in manifest.coverage]
    risks = [label for label in manifest.labels if label in manifest.coverage]
    return f"""{card_header(manifest.name, license=manifest.license, evaluation=evaluation)}

# {manifest.name}

{_kind(manifest)} It judges the image alone, not the question beside it.

{_table(("covered risk", "what is claimed"), [(f"`{risk}`", manifest.coverage[risk]) for risk in risks])}

Categories of taxonomy `{manifest.taxonomy.name}` that it was not trained to see, and says nothing about:
{", ".join(f"`{name}`" for name in absent) or "none"}.

It looks at the whole image at {manifest.preprocessing.height} x {manifest.preprocessing.width} pixels, made from a \
raster of at most {plan.raster_max_side}{_tiles(plan)}; it claims nothing about details that are lost there.

## Calibration and thresholds

{_calibration(manifest, policy)}
{_evaluation(evaluation)}
## Proof

{_proof(manifest)}{_engines(manifest)}

## Identity

{
        _table(
            ("", ""),
            [
                ("license of the weights", manifest.license),
                *_origin(manifest),
            ],
        )
    }

## Use

    from safevlm_sdk import Runtime          # pip install "safevlm-sdk[cpu]"

    with Runtime.load("path/to/this/folder"{_allowance(manifest)}) as runtime:
        verdict = runtime.check("photo.jpg")
        print(verdict.action, verdict.category, verdict.reason)
"""


def _tiles(plan: ViewPlan) -> str:
    if plan.tile is None:
        return ""
    return (
        f", and in the same way at tiles of {plan.tile} pixels that overlap by {plan.overlap} and cover all of the "
        f"raster. The worst view decides; a picture that takes more than {plan.max_views} views is refused, not "
        "judged in part"
    )


def _kind(manifest: Manifest) -> str:
    if not manifest.identity.is_classifier:
        return "A SafeVLM image gate."
    return "An existing image classifier as an image gate; its verdicts have no heatmap."


def _calibration(manifest: Manifest, policy: Policy) -> str:
    found = manifest.calibration
    if found.method == "none":
        return UNCALIBRATED
    thresholds = [(f"`{name}`", f"{value:.4g}") for name, value in sorted(manifest.thresholds.categories.items())]
    warning = other_policy(found, policy)
    how = (
        STATED
        if found.method == "stated"
        else f"Method {found.method}, temperature {found.temperature:.4g}, on {found.risky_groups} risky and "
        f"{found.safe_groups} safe groups of images."
    )
    return (
        f"{how} {found.note}\n\n"
        + _table(("threshold on", "value"), [*thresholds, ("any risk", f"{manifest.thresholds.any:.4g}")])
        + ("" if found.record is None else "\n\n" + _record(found.record))
        + ("" if warning is None else f"\n\n**{plain(warning)}**")
    )


def _evaluation(evaluation: EvaluationRecord | None) -> str:
    return "" if evaluation is None else f"\n{evaluation_section(evaluation)}\n"


def _record(record: CalibrationRecord) -> str:
    """The evidence of `safevlm calibrate`."""
    rows = [
        (
            "groups of harmless images flagged"
            if rate.kind == "flag"
            else f"groups of `{rate.category}` images missed",
            "only measured" if rate.at_most is None else f"at most {rate.at_most:.4g}",
            f"{rate.errors} of {rate.groups} groups ({rate.images} images)",
            f"{rate.upper_bound:.4g} at {rate.confidence:.6g} confidence",
        )
        for rate in record.rates
    ]
    return (
        f"{_table(('what', 'promised', 'seen', 'exact upper bound'), rows)}\n\n"
        f"These bounds hold for images like those of the calibration, and under the policy of digest "
        f"`{record.policy}`. The thresholds of the bundle or checkpoint that it came from, `{record.came_from}`, and "
        "what was claimed at them, no longer hold."
    )


def _origin(manifest: Manifest) -> list[tuple[str, str]]:
    identity = manifest.identity
    if identity.is_classifier:
        return [
            ("image classifier, not trained here", identity.tower),
            ("classifier digest", f"`{identity.tower_digest}`"),
            ("digest of classifier and label map", f"`{identity.checkpoint_digest}`"),
        ]
    return [
        ("vision tower", f"{identity.tower}, {identity.tap}"),
        ("tower digest", f"`{identity.tower_digest}`"),
        ("checkpoint digest", f"`{identity.checkpoint_digest}`"),
    ]


def _engines(manifest: Manifest) -> str:
    if not manifest.engines:
        return ""
    rows = [
        (f"`{one.id}`", f"`{one.graph}`", f"{one.flavor} {one.version}", ", ".join(one.compute_capabilities))
        for one in manifest.engines
    ]
    return (
        "\n\nEngines were built of these graphs and not run: each must reproduce its graph's golden outputs and "
        "decisions where it is loaded. They load only from a bundle that is pinned, or whose signature was checked."
        "\n\n" + _table(("engine", "built of", "with", "for compute capability"), rows)
    )


def _proof(manifest: Manifest) -> str:
    rows = [
        (
            f"`{graph}`",
            str(proof.images),
            *(
                f"{proof.max_error[name]:.2g}" if name in proof.max_error else "not stated"
                for name in (*DECISION_OUTPUTS, "features")
            ),
            _flips(proof),
            str(proof.near_threshold),
        )
        for graph, proof in manifest.proof.graphs.items()
    ]
    errors = ("max error of type logits", "of level log-probabilities", "of features")
    heads = ("graph", "images", *errors, "flips", "near a threshold")
    kind = {"decisions": "Decisions and numbers", "numeric": "Numbers only"}[manifest.proof.kind]
    original = "the original classifier" if manifest.identity.is_classifier else "the checkpoint in PyTorch"
    return (
        f"{kind}, against {original}, on {manifest.proof.source}. A flip is a change of category, "
        f"level or action.\n\n{_table(heads, rows)}{_precisions(manifest)}"
    )


def _flips(proof: GraphProof) -> str:
    """The flips, and of which categories they are."""
    counted = ", ".join(f"{count} {category}" for category, count in proof.flips_by_category.items())
    return f"{proof.flips} ({counted})" if counted else str(proof.flips)


def _precisions(manifest: Manifest) -> str:
    """What ran each graph in its proof, and which layers of it stayed float32."""
    by_machine: dict[str, list[str]] = {}
    for graph in manifest.graphs:
        if graph.proven_on is not None:
            by_machine.setdefault(graph.proven_on, []).append(f"`{graph.id}`")
    lines = [f"Proven on {where}: {', '.join(graphs)}." for where, graphs in by_machine.items()]
    lines += [
        f"In `{graph.id}` these layers stayed float32, for as integers they moved decisions or features too far: "
        f"{', '.join(f'`{layer}`' for layer in graph.kept_fp32)}."
        for graph in manifest.graphs
        if graph.kept_fp32
    ]
    return "".join(f"\n\n{line}" for line in lines)


def _allowance(manifest: Manifest) -> str:
    return ", allow_uncalibrated=True" if manifest.proof.kind == "numeric" else ""


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
