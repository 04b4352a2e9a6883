"""The report's files for programs: report.json (the means, and how they came about) and report.csv (a row a pair)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from delit_models.atomic_write import atomic_write

from .tables import TABLES, PairScores, Summary, group_by, summarise

REPORT_FORMAT = 1
GROUPINGS = {"tone_group": "by_tone_group", "light_kind": "by_light_kind"}


@dataclass(frozen=True)
class About:
    """What was measured on what, for the head of the report.

    Attributes:
        weights: name stored in the heads file. weights_sha256: that file's hash.
        vae: the VAE's file name.
        data_root: the data set folder, as given. split: "train" or "test".
        training: how the heads were made, as their file tells.
        notes: what is missing and why.
    """

    weights: str
    weights_sha256: str
    vae: str
    data_root: str
    split: str
    training: dict[str, object]
    notes: tuple[str, ...]


def write_json(path: Path, about: About, pairs: Sequence[PairScores]) -> None:
    """Means, medians and counts: overall, by tone group and by light kind; method → metric → figures."""
    report: dict[str, object] = {
        "format_version": REPORT_FORMAT,
        "about": asdict(about),
        "pairs": len(pairs),
        "subjects": len({pair.subject for pair in pairs}),
        "metrics": _legend(),
        "overall": _plain(summarise(pairs)),
    }
    for attribute, key in GROUPINGS.items():
        groups = group_by(pairs, attribute)
        report[key] = {name: {"pairs": len(own), **_plain(summarise(own))} for name, own in groups.items()}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, pairs: Sequence[PairScores]) -> None:
    """A row a pair: who, in what light, and a column `method.metric` for every figure; empty where there is none."""
    columns = [
        (method.key, metric.key)
        for table in TABLES
        for method in table.methods
        for metric in table.metrics
        if any(metric.key in pair.scores.get(method.key, {}) for pair in pairs)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["subject", "env", "tone_group", "light_kind", *(f"{method}.{metric}" for method, metric in columns)]
    )
    for pair in pairs:
        values = (pair.scores[method].get(metric, math.nan) for method, metric in columns)
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
        writer.writerow([pair.subject, pair.env, pair.tone_group, pair.light_kind, *cells])
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _legend() -> dict[str, dict[str, object]]:
    """What each metric is, so that the file can be read without its program."""
    return {
        metric.key: {"label": metric.label, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
        for table in TABLES
        for metric in table.metrics
    }


def _plain(summary: dict[str, dict[str, Summary]]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """As JSON takes it: no NaN, which its grammar lacks."""
    return {
        method: {
            metric: {
                "mean": _figure(figures.mean),
                "median": _figure(figures.median),
                "count": figures.count,
            }
            for metric, figures in metrics.items()
        }
        for method, metrics in summary.items()
    }


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
