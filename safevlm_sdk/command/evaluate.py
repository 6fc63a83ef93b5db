"""`safevlm eval`: how good a checkpoint is on labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from safevlm_sdk.command.extras import needs
from safevlm_sdk.command.printing import console, printable
from safevlm_sdk.errors import OptionError
from safevlm_sdk.policy import load_policy

FAILED = 1


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint's folder.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="Labelled images: FOLDER with <category>/[<level>/]<images>, FILE.jsonl, or CATEGORY=FOLDER as in "
            "safe=photos/; repeat for several.",
        ),
    ],
    probe_data: Annotated[
        list[str] | None,
        typer.Option(help="Other labelled images, as for --data, to fit the linear probe on: the baseline."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="A policy, instead of the default one for its taxonomy.")
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Write the figures into the checkpoint too: evaluation.json, and a section of its README.md. No "
            "names of images.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write eval.json and eval.html into this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Show the worst mistakes in eval.html; images may be private.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 1000,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Measure corrupted and attacked images too; takes a while.")
    ] = False,
    corrupted: Annotated[
        int, typer.Option(min=1, help="Risky images, and safe ones, that --robustness corrupts, at most.")
    ] = 100,
    attacked: Annotated[
        int, typer.Option(min=0, help="Risky images, and safe ones, that --robustness attacks; 0: no attack.")
    ] = 24,
    transfer_to: Annotated[
        list[Path] | None,
        typer.Option(help="Another checkpoint, as of another seed, that judges the attacked images; repeatable."),
    ] = None,
    asked: Annotated[
        int,
        typer.Option(min=0, help="Rows with turns that the checkpoint's language model answers, at most; 0: none."),
    ] = 400,
    new_tokens: Annotated[int, typer.Option(min=1, help="Of each of its answers, at most.")] = 128,
    asked_together: Annotated[int, typer.Option(min=1, help="Rows that it answers in one batch.")] = 8,
    questions: Annotated[
        list[str] | None,
        typer.Option(help="A published set of questions for it, as holisafe=holisafe_bench.json; repeatable."),
    ] = None,
    acknowledge: Annotated[
        list[str] | None, typer.Option(help="The sentence that a set with sexual images asks for; repeatable.")
    ] = None,
    asked_on: Annotated[
        str, typer.Option(help="Where the language model runs: cpu, cuda, cuda:1, or auto for wherever it fits.")
    ] = "cpu",
    pictured: Annotated[
        int, typer.Option(min=0, help="Images in the figure of its feature spaces, at most; 0: no figures.")
    ] = 500,
) -> None:
    """Measure a checkpoint on labelled images that trained nothing: figures with intervals, as JSON and as a page.

    Where a language model took part in the checkpoint, rows with turns are answered with safety tokens and without,
    too: how often it refuses, answers what it should refuse, and drifts where nothing should change.

    Exit code 0: done; 1: an image or row could not be judged, and the figures are of the others.
    """
    needs("train", "torch", "transformers", "safetensors", "scipy", "sklearn")
    if transfer_to and not (robustness and attacked):
        raise OptionError("--transfer-to says who judges attacked images; it goes with --robustness")
    if card and policy is not None and _sets_thresholds(policy):
        raise OptionError("--card tells what the shipped thresholds do; leave those of the policy out, or --card")
    report_module = import_module("safevlm_training.evaluation.report")
    publishing = import_module("safevlm_training.evaluation.publishing")
    if card:
        publishing.require_card(checkpoint)
    if out is not None:
        report_module.require_writable(out, [*data, *(probe_data or ())])
    found = import_module("safevlm_training.evaluation.evaluate").evaluate_checkpoint(
        checkpoint, data, probe_data=probe_data or (), policy=policy, resamples=resamples
    )
    hardened = None
    if robustness:
        hardened = import_module("safevlm_training.evaluation.hardening").harden(
            checkpoint, found, corrupted=corrupted, attacked=attacked, transfer_to=transfer_to or ()
        )
    plan = {"rows": asked, "new_tokens": new_tokens, "together": asked_together, "images": pictured}
    sets = {"device": asked_on, "questions": tuple(questions or ()), "acknowledged": tuple(acknowledge or ())}
    language = _ask(checkpoint, found, plan | sets, out) if found.language_model else None
    parts = [part for part in (hardened, language) if part is not None]
    extra = [part.section for part in parts]
    if as_json:
        typer.echo(report_module.report_json(found, extra))
    else:
        _print(found.report)
        for line in [line for part in parts for line in part.lines]:
            console().print(printable(line), markup=False)
    if out is not None:
        page = report_module.write_report(out, found, extra=extra, thumbnails=thumbnails)
        typer.echo(f"report: {printable(str(page))}", err=True)
    if card:
        told = () if language is None else language.summary
        record = import_module("safevlm_training.evaluation.summary").summarise(found, hardened, told)
        written = publishing.publish_evaluation(checkpoint, record)
        typer.echo(f"card: {printable(str(written))}", err=True)
    lost = found.failed + (0 if language is None else language.failed)
    raise typer.Exit(FAILED if lost else 0)


def _sets_thresholds(path: Path) -> bool:
    policy = load_policy(path)
    return bool(policy.thresholds) or policy.any_threshold is not None


def _ask(checkpoint: Path, found: Any, plan: Mapping[str, Any], out: Path | None) -> Any:
    """What the checkpoint's language model makes of rows with turns."""
    needs("train", "matplotlib", "peft")
    module = import_module("safevlm_training.vlm.evaluation.measure")
    return module.measure_language_model(checkpoint, found, plan=module.AnswerPlan(**plan), out=out)


def _print(report: Mapping[str, Any]) -> None:
    short = import_module("safevlm_training.evaluation.tables").short
    shown = console()
    data = report["data"]
    counts = ", ".join(f"{count} {label}" for label, count in data["counts"].items())
    shown.print(f"{data['judged']} images in {data['groups']} groups: {counts}; in brackets: 95 % intervals")
    shown.print(_classes(report, short))
    shown.print(_sources(report, short))
    levels = report["levels"]
    shown.print(
        f"levels: accuracy {short(levels['accuracy'])}, mean absolute error {short(levels['mean_absolute_error'])}, "
        f"quadratic weighted kappa {short(levels['quadratic_weighted_kappa'])}",
        markup=False,
    )
    error = report["any_risk"]["calibration"]["expected_calibration_error"]
    shown.print(f"calibration error of any risk: {short(error)}", markup=False)
    unusable = [f"{one['file']}: {one['error']}: {one['reason']}" for one in data["failed"]]
    unusable += [f"{one['where']}: {one['reason']}" for one in data["bad_rows"]]
    if unusable:
        shown.print(f"{len(unusable)} images or rows could not be judged, and are in no figure:")
    for line in unusable:
        shown.print(f"  {printable(line)}", markup=False)


def _classes(report: Mapping[str, Any], short: Any) -> Table:
    table = Table("", "precision", "recall", "F1", "false positives", "AUROC", "average precision", box=None)
    rows = {"any risk": report["any_risk"], **(report["categories"] if len(report["categories"]) > 1 else {})}
    for name, figures in rows.items():
        keys = ("precision", "recall", "f1", "false_positive_rate", "auroc", "average_precision")
        table.add_row(Text(name), *(Text(short(figures[key])) for key in keys))
    if report["probe"] is not None:
        probe = report["probe"]["any_risk"]
        ranks = (Text(short(probe[key])) for key in ("auroc", "average_precision"))
        table.add_row(Text("linear probe"), "", "", "", "", *ranks)
    return table


def _sources(report: Mapping[str, Any], short: Any) -> Table:
    table = Table("source", "safe images", "flagged", "risky images", "flagged", "failed", box=None)
    for name, one in report["sources"].items():
        safe, risky = one["safe_flagged"], one["risky_flagged"]
        cells = (str(safe.images), short(safe), str(risky.images), short(risky), str(one["failed"]))
        table.add_row(Text(printable(name)), *map(Text, cells))
    return table
