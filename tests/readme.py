"""Writes the README's tables anew: `python -m tests.readme`."""

import csv
import pathlib
import re
import statistics

from keras_zoo import list_components, list_presets
from keras_zoo._catalog import PAPERS

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"


def table(head, rows):
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def components():
    """One row a public name."""
    rows = [
        [
            f"`{c.path.removeprefix('keras_zoo.')}`",
            c.kind,
            f"[{c.paper}]({PAPERS[c.paper].url})",
            c.summary,
        ]
        for c in list_components()
    ]
    return table(["name", "kind", "paper", "what it is"], rows)


def presets():
    """One row a preset of the checkout."""
    rows = [
        [
            f"`{name}`",
            data["task"],
            f"{data['parameters']:,}",
            str(data["data"]),
            f"[{data['paper']}]({PAPERS[data['paper']].url})",
        ]
        for name, data in list_presets().items()
        if pathlib.Path(data["path"]).parent == ROOT / "saved_models"
    ]
    return table(["preset", "task", "parameters", "trained on", "paper"], rows)


def results():
    """What the examples found: mean and standard deviation over seeds, for each arm."""
    folder = ROOT / "examples" / "results"
    return "\n\n".join(_result(slug) for slug in PAPERS if (folder / f"{slug}.csv").exists())


# Columns that tell the rows of an arm apart, and those that say how it was trained.
SETTINGS = (
    "sigma",
    "labels",
    "noise",
    "task",
    "data",
    "goal",
    "chosen_for",
    "compared",
    "shots",
    "training_rows",
    "encoder",
)
CHOICES = (
    "steps",
    "epochs",
    "episodes",
    "learning_rate",
    "weight_decay",
    "temperature",
    "scale",
    "margin",
    "alpha",
    "q",
    "epsilon",
    "C",
    "threshold_of_logits",
    "box_cox_period",
    "setting",
    "epoch",
    "whiten",
    "nu",
    "gamma",
    "shrinkage",
    "sharpness",
    "threshold",
    "weight",
)


def _result(slug):
    path = ROOT / "examples" / "results" / f"{slug}.csv"
    rows = list(csv.DictReader(path.open()))
    settings = [c for c in rows[0] if c in SETTINGS]
    metrics = [c for c in rows[0] if c not in ("arm", "seed", *SETTINGS, *CHOICES)]
    groups = {}
    for row in rows:
        groups.setdefault((row["arm"], *(row[s] for s in settings)), []).append(row)
    body = []
    for key, group in groups.items():
        cells = []
        for metric in metrics:
            values = [float(row[metric]) for row in group if row[metric]]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}" if values else "")
        body.append([*key, str(len(group)), *cells])
    verdict = path.with_suffix(".txt").read_text().strip()
    head = table(["arm", *settings, "seeds", *metrics], body)
    title = f"**{slug}** (`examples/{slug.replace('-', '_')}.py`). {verdict}"
    return f"{title}\n\n<details><summary>table</summary>\n\n{head}\n\n</details>"


def benchmarks():
    """The ratios of the benchmarks, as they were last measured."""
    parts = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.csv")):
        rows = list(csv.DictReader(path.open()))
        head, cells = _ratios(rows) if "ratio" in rows[0] else _measures(rows)
        parts.append(f"**{path.stem}** (`benchmarks/{path.stem}.py`)\n\n{table(head, cells)}")
    return "\n\n".join(parts)


def _measures(rows):
    columns = [c for c in rows[0] if c != "turns"]
    return columns, [[row[c] for c in columns] for row in rows]


def _ratios(rows):
    """Time of a side over that of the reference: a row for each case, a column for each backend."""
    keys = [c for c in rows[0] if c not in ("backend", "mode", "ms", "ratio", "turns")]
    keys = [c for c in keys if not c.endswith(("_ms", "_mib"))]
    found = {}
    for row in rows:
        if row["side"] != row["reference"]:
            how = " ".join(row[c] for c in ("backend", "mode") if c in row)
            found.setdefault(tuple(row[c] for c in keys), {})[how] = f"{float(row['ratio']):.3g}"
    ways = sorted({how for cells in found.values() for how in cells})
    cells = [[*key, *(by_way.get(how, "") for how in ways)] for key, by_way in found.items()]
    return [*keys, *ways], cells


SECTIONS = {f.__name__: f for f in (components, presets, results, benchmarks)}


def generated(text):
    """The README's text with each marked section written anew."""
    for name, make in SECTIONS.items():
        pattern = rf"(<!-- {name}: generated -->\n).*?(<!-- end -->)"
        assert re.search(pattern, text, flags=re.S), f"the README has no section {name!r}"
        text = re.sub(pattern, lambda m, make=make: f"{m[1]}{make()}\n{m[2]}", text, flags=re.S)
    return text


if __name__ == "__main__":
    README.write_text(generated(README.read_text()))
