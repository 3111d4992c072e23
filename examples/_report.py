"""What every example does with its rows: compare arms in pairs, print, draw, write.

A row is a dict with "arm", "seed", then settings, then metrics. Arms are compared seed by seed,
since they share their start and their batches.
"""

import argparse
import contextlib
import csv
import pathlib
import tempfile

import numpy as np
from scipy import stats

RESULTS = pathlib.Path(__file__).parent / "results"


def parser(doc, seeds=5, choose=None, save=None):
    """The arguments that every example takes; an example may add its own.

    Args:
        doc: the example's docstring.
        seeds: int, how many by default.
        choose: help of `--choose`, of an example whose settings were searched for, or None.
        save: help of `--save DIR`, of an example that trains a preset, or None.
    """
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--seeds", type=int, default=seeds)
    made.add_argument("--smoke", action="store_true", help="seconds, results thrown away")
    made.add_argument("--out", type=pathlib.Path, help="folder of the table, plot and verdict")
    if choose is not None:
        made.add_argument("--choose", action="store_true", help=choose)
    if save is not None:
        made.add_argument("--save", metavar="DIR", help=save)
    return made


@contextlib.contextmanager
def output_folder(args):
    """Where results go: `--out`, else nowhere that lasts in a smoke run, else `results`."""
    if args.smoke and args.out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder)
    else:
        folder = args.out or RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def column(rows, arm, metric, **settings):
    """One number a seed, in the order of the seeds."""
    wanted = {"arm": arm, **settings}
    found = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
    return np.array([row[metric] for row in sorted(found, key=lambda row: row["seed"])])


def arms_of(rows):
    """The arms in the order in which they first appear."""
    return list(dict.fromkeys(row["arm"] for row in rows))


def paired(rows, method, arm, metric, **settings):
    """Mean of `method - arm` over seeds, its standard deviation, p of a paired t-test."""
    difference = column(rows, method, metric, **settings) - column(rows, arm, metric, **settings)
    if len(difference) < 2:
        return difference.mean(), 0.0, float("nan")
    if not np.ptp(difference):
        return difference.mean(), 0.0, float("nan") if difference[0] == 0 else 0.0
    return difference.mean(), difference.std(ddof=1), stats.ttest_1samp(difference, 0.0).pvalue


def print_table(rows, method, metrics, **settings):
    """Mean and spread of each arm, and how far `method` is ahead of it in the first metric."""
    arms = arms_of(rows)
    width = max(map(len, arms)) + 2
    head = "".join(f"{metric:>20}" for metric in metrics)
    print(f"\n{'arm':<{width}}{head}{f'{metrics[0]}: {method} - arm':>32}{'p':>10}")
    for arm in arms:
        line = f"{arm:<{width}}"
        for metric in metrics:
            values = column(rows, arm, metric, **settings)
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            line += f"{f'{values.mean():.4f} ± {spread:.4f}':>20}"
        if arm != method:
            mean, spread, p = paired(rows, method, arm, metrics[0], **settings)
            line += f"{f'{mean:+.4f} ± {spread:.4f}':>32}{p:>10.4f}"
        print(line)


def compare_all(rows, method, metric, higher_is_better=True, arms=None, **settings):
    """In words: which arms the method is better than, worse than, not told apart from."""
    found = {"better than": [], "worse than": [], "not told apart from": []}
    for arm in arms or arms_of(rows):
        if arm != method:
            mean, _, p = paired(rows, method, arm, metric, **settings)
            won = (mean > 0) == higher_is_better
            word = ("better than" if won else "worse than") if p < 0.05 else "not told apart from"
            found[word].append(arm)
    parts = [f"{word} {', '.join(names)}" for word, names in found.items() if names]
    return f"{method} is {'; '.join(parts)} (paired t-tests at 5 %, not corrected)"


def write(folder, slug, rows, verdict, figure):
    """Prints the verdict; writes it, the rows and a matplotlib figure under the paper's name."""
    print(f"Verdict: {verdict}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (folder / f"{slug}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
    (folder / f"{slug}.txt").write_text(verdict + "\n", encoding="utf-8")
    figure.savefig(folder / f"{slug}.png")
    print(f"Written to {folder}")


def pyplot():
    """`matplotlib.pyplot` that needs no screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def new_figure(*args, **kwargs):
    """`matplotlib.pyplot.subplots` for a small picture."""
    return pyplot().subplots(*args, **{"dpi": 100, "layout": "constrained", **kwargs})


def draw_bars(axes, rows, method, metric, **settings):
    """One bar an arm, the best on top, with a dot for each seed; the method stands out."""
    arms = sorted(arms_of(rows), key=lambda arm: column(rows, arm, metric, **settings).mean())
    for height, arm in enumerate(arms):
        values = column(rows, arm, metric, **settings)
        axes.barh(height, values.mean(), color="tab:orange" if arm == method else "lightgray")
        axes.plot(values, np.full(len(values), height), "k.", markersize=4)
    axes.set_yticks(range(len(arms)), arms)
