"""What `import keras_zoo` adds to `import keras`, in processes of their own.

KERAS_BACKEND=jax python benchmarks/import_time.py
"""

import os
import statistics
import subprocess
import sys

import keras
from _runner import write_csv

CODE = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
import keras_zoo
print(middle - start, time.perf_counter() - middle)
"""


def main(repeats=7):
    backend = keras.backend.backend()
    times = []
    for _ in range(repeats):
        command = [sys.executable, "-c", CODE]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        times.append([float(t) for t in out.stdout.split()[-2:]])
    alone, added = (statistics.median(t) for t in zip(*times, strict=True))
    row = {
        "backend": backend,
        "keras_s": round(alone, 3),
        "keras_zoo_adds_s": round(added, 3),
        "runs": repeats,
    }
    print(row)
    write_csv("import_time", [row], ["backend"])


if __name__ == "__main__":
    main()
