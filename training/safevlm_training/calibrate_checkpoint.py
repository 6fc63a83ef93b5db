"""New thresholds for a checkpoint, on images that training never saw; the same rules and page as for a bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from safevlm_sdk.atomic import publish_folder, require_publishable
from safevlm_sdk.calibration.page import Written, publish_page
from safevlm_sdk.calibration.request import Request, judge_request, place_of_page
from safevlm_sdk.calibration.run import Outcome, Subject, calibrate
from safevlm_sdk.calibration.samples import Seen
from safevlm_sdk.card_header import with_model_index
from safevlm_sdk.decision import Rule
from safevlm_sdk.errors import CalibrationError, CheckpointError, OptionError, OutputNotFinite
from safevlm_sdk.policy import Policy, default_policy_text, load_policy, parse_policy
from safevlm_sdk.policy_fit import require_judged
from safevlm_sdk.preprocess import preprocess
from safevlm_sdk.raster import Frame, Limits, capped, decode
from safevlm_training.card import TITLE, model_card
from safevlm_training.checkpoint import (
    CALIBRATION_FILE,
    CARD_FILE,
    CHECKPOINT_FOLDERS,
    SAFETY_FILE,
    TOWER_FILE,
    TRAINING_FILE,
    CheckpointCalibration,
    checkpoint_digest,
    load_calibration,
)
from safevlm_training.config import CONFIG_FILE, SafetyConfig, load_config, pretty_json, read_file
from safevlm_training.plan import is_checkpoint
from safevlm_training.quiet import quiet
from safevlm_training.risk_model import RiskModel

HALF = 0.5
WEIGHTS = (CONFIG_FILE, SAFETY_FILE, TOWER_FILE)
BY_TRAINING = "## The card that training wrote"


def calibrate_checkpoint(path: Path, request: Request) -> Written:
    """Judges the images with the checkpoint in PyTorch, sets new thresholds and writes a new checkpoint and its page.

    Args:
        path: The checkpoint; it stays as it is.
        request: Images, bounds and destinations. Another checkpoint at `out` is replaced in one step.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        DataError: The images cannot be read.
        CalibrationError: The bounds cannot be kept, or `out` is no place for the new checkpoint.
        PolicyError: The policy is not valid, or wants nothing that the checkpoint covers.
        OptionError: Tiles were asked for.
    """
    if request.tiling is not None:
        raise OptionError(
            f"{path}: is a checkpoint, which looks at whole images; export it, then calibrate the bundle for tiles"
        )
    page = place_of_page(request, path)
    require_publishable(request.out, is_checkpoint, error=CalibrationError)
    config = load_config(path)
    text = default_policy_text(config.taxonomy)
    policy = parse_policy(text) if request.policy is None else load_policy(request.policy)
    require_judged(policy, tuple(config.coverage), whose="the checkpoint")
    with quiet():
        model = RiskModel.from_pretrained(path)
    subject = Subject(
        name=path.resolve().name,
        digest=checkpoint_digest(path),
        rule=_rule(model.config, load_calibration(path)),
        risks=tuple(model.config.taxonomy.categories),
        policy=policy,
        logit_error=0.0,
    )
    limits = Limits(frames=policy.frames, mpo=policy.mpo)
    judged = judge_request(request, subject, lambda image: _seen(model, image, limits))
    outcome = calibrate(subject, judged.data, request.demand)
    found = CheckpointCalibration(calibration=outcome.calibration, thresholds=outcome.thresholds)
    contents = {name: read_file(path / name) for name in (*WEIGHTS, *_in_folders(path)) if (path / name).exists()}
    if checkpoint_digest(path) != subject.digest:
        raise CalibrationError(f"{path}: changed while its images were judged; leave it alone and calibrate again")
    contents |= {
        CALIBRATION_FILE: pretty_json(found),
        TRAINING_FILE: pretty_json(_record(path, outcome, policy)),
        CARD_FILE: _card(path, model.config, found).encode("utf-8"),
    }

    def fill(folder: Path) -> None:
        for name, data in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)

    publish_folder(request.out, fill, replaceable=is_checkpoint, error=CalibrationError)
    written = Written(
        out=request.out,
        page=page,
        digest=checkpoint_digest(request.out),
        outcome=outcome,
        passed_over=judged.passed_over,
        proof="",
        notes=("The thresholds are the checkpoint's: export it, and its graphs are proven at them.",),
    )
    publish_page(written)
    return written


def _in_folders(path: Path) -> list[str]:
    """Names of the files of LoRA adapters and processor, where a language model took part."""
    folders = [path / name for name in sorted(CHECKPOINT_FOLDERS)]
    return [
        f"{folder.name}/{file.name}" for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())
    ]


def _rule(config: SafetyConfig, calibrated: CheckpointCalibration | None) -> Rule:
    """The present one; every threshold is one half where there was no calibration."""
    if calibrated is None:
        thresholds = dict.fromkeys(config.coverage, HALF)
        return Rule(
            labels=config.labels, activation="softmax", temperature=1.0, thresholds=thresholds, any_threshold=HALF
        )
    return Rule(
        labels=config.labels,
        activation="softmax",
        temperature=calibrated.calibration.temperature,
        thresholds=calibrated.thresholds.categories,
        any_threshold=calibrated.thresholds.any,
    )


def _seen(model: RiskModel, image: Path, limits: Limits) -> Seen:
    """Every frame over every background, as the runtime judges them.

    Raises:
        ImageError: It cannot be decoded.
        OutputNotFinite: The model gives NaN or infinity.
    """
    config = model.config
    raster = decode(image, limits=limits, max_side=config.raster_max_side)
    views = [pixels for frame in raster.frames for pixels in _readings(frame)]
    types, levels = [], []
    for view in views:
        tensor = preprocess(capped(view, config.raster_max_side), config.preprocessing)
        with torch.inference_mode():
            output, _ = model(torch.from_numpy(tensor)[None])
        types.append(output.type_logits[0].float().numpy())
        levels.append(output.level_logprobs[0].float().numpy())
    if not (np.isfinite(types).all() and np.isfinite(levels).all()):
        raise OutputNotFinite(f"the checkpoint gives NaN or infinity for {image.name}")
    return Seen(
        type_logits=np.stack(types),
        level_logprobs=np.stack(levels),
        pixels=raster.frames[0].pixels,
        source_sha256=raster.source_sha256 or raster.frames[0].sha256,
    )


def _readings(frame: Frame) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [frame.pixels, *(pixels for _, pixels in frame.variants)]


def _record(path: Path, outcome: Outcome, policy: Policy) -> dict[str, Any]:
    """training.json with what was done; what training counted stays, and is said to be of the thresholds before."""
    file = path / TRAINING_FILE
    try:
        record = json.loads(read_file(file)) if file.exists() else {}
    except ValueError as problem:
        raise CheckpointError(f"{file}: {problem}; copy the checkpoint again") from problem
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: is no JSON object; copy the checkpoint again")
    rule = outcome.subject.rule
    before = {"temperature": rule.temperature, "categories": dict(rule.thresholds), "any": rule.any_threshold}
    earlier = record.get("calibrated_again", {})
    record["calibrated_again"] = {
        "record": msgspec.to_builtins(outcome.record),
        "policy": policy.name,
        "metrics_at_thresholds_are_of": earlier.get("metrics_at_thresholds_are_of", before),
    }
    return record


def _card(path: Path, config: SafetyConfig, found: CheckpointCalibration) -> str:
    """A card with the new evidence, and below it what training wrote, which spoke of other thresholds.

    However often a checkpoint is calibrated, the card holds the latest calibration and training's card, once.
    """
    card = model_card(config, found.calibration, found.thresholds)
    file = path / CARD_FILE
    if not file.exists():
        return card
    # Figures of an evaluation were at other thresholds.
    old = with_model_index(read_file(file).decode("utf-8", "replace"), TITLE, None)
    header = ""
    if old.startswith("---\n") and "\n---\n" in old[4:]:
        end = old.index("\n---\n", 4) + 5
        header, old = old[:end], old[end:]
    body = card.split("\n---\n", 1)[1]
    return f"{header}{body}\n{_kept(old) or _lowered(old)}\n"


def _kept(card: str) -> str | None:
    """Training's section of a card that an earlier calibration wrote; None where training's card stands alone."""
    start = re.search(rf"^{re.escape(BY_TRAINING)}$", card, re.MULTILINE)
    if start is None:
        return None
    end = re.compile(r"^#{1,2} ", re.MULTILINE).search(card, start.end())
    return card[start.start() : None if end is None else end.start()].strip()


def _lowered(card: str) -> str:
    """Training's card as a section: its headings are two levels further down."""
    lines = [f"##{line}" if line.startswith("#") else line for line in card.strip().split("\n")]
    return (
        f"{BY_TRAINING}\n\nIts thresholds, and every rate at them, are of before `safevlm calibrate` and no longer "
        "hold.\n\n" + "\n".join(lines)
    )
