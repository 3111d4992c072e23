"""Times rivals in one process, in turns, and keeps the figures as CSV.

Absolute times depend on the machine and on what else it does; the ratio of two sides that were
run in turns does so far less. Every row therefore carries the ratio to its reference.
"""

import csv
import pathlib
import statistics
import time

RESULTS = pathlib.Path(__file__).parent / "results"


def time_in_turns(sides, repeats=20, warmup=3, budget_s=20.0):
    """Median seconds a call for each side, measured run after run in turns.

    Args:
        sides: dict of name to a function without arguments that ends only when its work is done.
        repeats: runs of each side at the most.
        warmup: runs of each side that are not counted.
        budget_s: after this many seconds no further turn begins (three are made in any case).

    Returns:
        Dict of name to the list of its times in seconds.
    """
    for _ in range(warmup):  # In turns too: one side may make another compile anew.
        for run in sides.values():
            run()
    times = {name: [] for name in sides}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > budget_s:
            break
        for name, run in sides.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return times


def rows_against(times, reference, **columns):
    """CSV rows: median milliseconds, and the median over turns of the ratio to the reference."""
    rows = []
    for name, values in times.items():
        ratios = [v / r for v, r in zip(values, times[reference], strict=True)]
        rows.append(
            {
                **columns,
                "side": name,
                "ms": round(1e3 * statistics.median(values), 3),
                "reference": reference,
                "ratio": round(statistics.median(ratios), 3),
                "turns": len(values),
            }
        )
    return rows


def write_csv(name, rows, keys):
    """Writes rows to results/<name>.csv; a row takes the place of the old one with its `keys`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    old = list(csv.DictReader(path.open())) if path.exists() else []
    table = {tuple(str(row[k]) for k in keys): row for row in [*old, *rows]}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(table.values())
    return path
