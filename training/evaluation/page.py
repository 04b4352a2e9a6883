"""The report's page for people: the tables, and pictures from the worst to the best, in a folder beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from delit_models.atomic_write import atomic_write

from .report import About
from .tables import TABLES, Metric, PairScores, Summary, Table, group_by, summarise

GROUP_TITLES = {"tone_group": "By skin tone", "light_kind": "By kind of light"}
# Groups are compared by these; the spheres of every group would be read by nobody, and are in report.csv.
GROUPED_TABLES = ("flat", "light")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; --best: #2a8f5a; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .name { text-align: left; } thead th { vertical-align: bottom; font-weight: 600;
  white-space: normal; min-width: 3.6rem; }
tbody tr.delit td { font-weight: 600; } tr.group td { padding-top: .9rem; font-weight: 600; border-bottom: 0; }
small { color: var(--quiet); font-weight: 400; } figure { margin: 1.2rem 0; } figcaption { margin-bottom: .3rem; }
img { max-width: 100%; height: auto; display: block; } .note { border-left: 3px solid #c80; padding-left: .7rem; }
"""


@dataclass(frozen=True)
class Example:
    """A pair to look at: its scores, and its picture's path relative to the page."""

    scores: PairScores
    picture: str


def write_page(path: Path, about: About, pairs: Sequence[PairScores], examples: Sequence[Example]) -> None:
    """Write report.html."""
    parts = [_head(about, pairs)]
    overall = summarise(pairs)
    parts += [_section(table.title, table.note, _rows(table, overall), table, overall) for table in TABLES]
    parts.append(_pictures(examples))
    for attribute, title in GROUP_TITLES.items():
        groups = group_by(pairs, attribute)
        for table in TABLES:
            if table.key in GROUPED_TABLES:
                rows = "".join(_group_rows(table, name, own) for name, own in groups.items())
                parts.append(_section(f"{title}: {_lowered(table.title)}", "", rows, table, overall))
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(about.weights)}: evaluation</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(document, encoding="utf-8")


def _head(about: About, pairs: Sequence[PairScores]) -> str:
    subjects = len({pair.subject for pair in pairs})
    made = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.training.items())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in about.notes)
    return (
        f"<h1>{escape(about.weights)}</h1>"
        f"<p>{len(pairs)} pairs of {subjects} subjects, “{escape(about.split)}” split of "
        f"{escape(about.data_root)}; VAE {escape(about.vae)}.</p>"
        f'<p class="quiet">Trained with {escape(made or "settings that the file does not tell")}. '
        f"SHA-256 {escape(about.weights_sha256[:16])}…</p>"
        f"{notes}<p>Figures are means over pairs, with medians in small print. Baselines and ceilings are measured "
        "on the same pairs in the same way.</p>"
    )


def _section(
    title: str, note: str, rows: str, table: Table, overall: Mapping[str, Mapping[str, Summary]]
) -> str:
    headings = "".join(
        f'<th title="{escape(metric.meaning)}">{escape(metric.label)}<br><small>{_unit(metric)}</small></th>'
        for metric in _present(table, overall)
    )
    return (
        f'<h2>{escape(title)}</h2><p class="quiet">{escape(note)}</p><div class="scroll"><table>'
        f"<thead><tr><th></th>{headings}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _unit(metric: Metric) -> str:
    return f"{metric.unit} {'↑' if metric.higher_is_better else '↓'}".strip()


def _rows(table: Table, summary: Mapping[str, Mapping[str, Summary]], present: Sequence[Metric] = ()) -> str:
    """A row a method that was measured."""
    rows = []
    for method in table.methods:
        if method.key in summary:
            metrics = present or _present(table, summary)
            cells = "".join(_cell(metric, summary[method.key].get(metric.key)) for metric in metrics)
            kind = ' class="delit"' if method.label.startswith("Delit") else ""
            rows.append(f"<tr{kind}><td>{escape(method.label)}</td>{cells}</tr>")
    return "".join(rows)


def _group_rows(table: Table, name: str, pairs: Sequence[PairScores]) -> str:
    summary = summarise(pairs)
    present = _present(table, summary)
    return (
        f'<tr class="group"><td colspan="{len(present) + 1}">{escape(name)} '
        f"<small>{len(pairs)} pairs</small></td></tr>{_rows(table, summary, present)}"
    )


def _present(table: Table, summary: Mapping[str, Mapping[str, Summary]]) -> list[Metric]:
    """The columns that were measured at all: LPIPS may not have been."""
    measured = {metric for method in table.methods for metric in summary.get(method.key, {})}
    return [metric for metric in table.metrics if metric.key in measured]


def _cell(metric: Metric, figures: Summary | None) -> str:
    if figures is None or math.isnan(figures.mean):
        return "<td>–</td>"
    mean, median = (f"{value:.{metric.decimals}f}" for value in (figures.mean, figures.median))
    return f"<td>{mean} <small>{median}</small></td>"


def _pictures(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    figures = "".join(
        f"<figure><figcaption>{escape(example.scores.subject)}/{escape(example.scores.env)} "
        f"<small>{escape(example.scores.tone_group)}, {escape(example.scores.light_kind)}; "
        f"PSNR {example.scores.scores['flat']['psnr']:.1f} dB "
        f"(input {example.scores.scores['input']['psnr']:.1f}), dominant light off by "
        f"{example.scores.scores['env']['dominant_direction']:.0f}°</small></figcaption>"
        f'<img src="{escape(example.picture)}" loading="lazy" alt="relit, flat-lit and true image; both lights">'
        "</figure>"
        for example in examples
    )
    return (
        '<h2>Pictures, from the worst to the best</h2><p class="quiet">Relit input, Delit’s flat-lit image, the true '
        "one. Then the light: Delit’s above, the true one below, at one exposure, with its mirror, matte and diffuse "
        f"spheres.</p>{figures}"
    )


def _lowered(title: str) -> str:
    return title[:1].lower() + title[1:]
