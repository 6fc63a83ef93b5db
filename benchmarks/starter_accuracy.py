"""How often the starter flags what it should, and what it should not, on images that trained nothing.

    python benchmarks/starter_accuracy.py --documents MANIFEST.jsonl --photos FOLDER

Documents are generated from layouts, colours and fonts that training never saw; photographs are counted one by one.
Needs scipy for the exact 95 % intervals (Clopper-Pearson).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from card import machine_card, print_card

from safevlm_sdk import Runtime, Verdict
from safevlm_sdk.calibration.bounds import lower_bound, upper_bound

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def interval(hits: int, total: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a rate."""
    return lower_bound(hits, total, 0.975), upper_bound(hits, total, 0.975)


def row(verdicts: list[Verdict]) -> dict[str, Any]:
    failed = sum(verdict.error is not None for verdict in verdicts)
    flagged = sum(verdict.error is None and not verdict.allowed for verdict in verdicts)
    low, high = interval(flagged, len(verdicts))
    return {
        "images": len(verdicts),
        "flagged": flagged,
        "rate": round(flagged / len(verdicts), 4),
        "95 %": [round(low, 4), round(high, 4)],
        "failed": failed,
    }


def judge(runtime: Runtime, manifest: Path, photos: Path) -> dict[str, list[Verdict]]:
    """Verdicts per source; `privacy`, `twins` and `photographs` are the sums."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[Verdict]] = defaultdict(list)
    verdicts = runtime.check_many(manifest.parent / entry["image"] for entry in rows)
    for entry, verdict in zip(rows, verdicts, strict=True):
        kind = entry["source"].removeprefix("generated/")
        found[kind].append(verdict)
        if entry["category"] == "privacy":
            found["all private documents"].append(verdict)
        elif kind not in ("scene", "photograph"):
            found["all hard twins"].append(verdict)
    files = sorted(path for path in photos.rglob("*") if path.suffix.lower() in PICTURES)
    found["real photographs"] = runtime.check_many(files)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path, required=True, help="a manifest.jsonl of the generator")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of harmless photographs")
    parser.add_argument("--bundle", type=Path, help="instead of the starter")
    options = parser.parse_args()
    card = machine_card()
    print_card(card)
    with Runtime.load(options.bundle) if options.bundle else Runtime.starter() as runtime:
        card["bundle"] = runtime.digests[0]
        result = {name: row(verdicts) for name, verdicts in judge(runtime, options.documents, options.photos).items()}
    for name, entry in sorted(result.items()):
        low, high = entry["95 %"]
        print(f"{name:24} {entry['flagged']:5} of {entry['images']:5}  {entry['rate']:.3f}  [{low:.3f}, {high:.3f}]")
    print(json.dumps({"benchmark": "starter_accuracy", "card": card, "result": result}))


if __name__ == "__main__":
    main()
