"""Retrieval data that is installed already: the docstrings of numpy, scipy and scikit-learn.

A query is the first sentence of a docstring, its passage is the rest.
"""

import importlib
import inspect
import pkgutil
import re
import warnings
import zlib

import numpy as np

MODULES = ("numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "numpy.polynomial")
PACKAGES = ("scipy", "sklearn")
SIGNATURES = re.compile(r"^(\w+\([^\n]*\)[^\n]*\n+)+")
END_OF_SENTENCE = re.compile(r"(?<=[.?!])\s+|\n\s*\n")


def modules():
    """The public modules of the three packages."""
    yield from map(importlib.import_module, MODULES)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith(("_", "conftest", "test")):
                yield importlib.import_module(f"{name}.{info.name}")


def documented(module):
    """Docstrings of the public functions and classes of a module, and of the latter's methods."""
    for name in sorted(dir(module)):
        thing = getattr(module, name, None)
        if name.startswith("_") or inspect.ismodule(thing) or not callable(thing):
            continue
        yield inspect.getdoc(thing)
        if inspect.isclass(thing):
            public = (n for n in sorted(vars(thing)) if not n.startswith("_"))
            yield from (inspect.getdoc(getattr(thing, n, None)) for n in public)


def pairs():
    """`(queries, passages)`, lists of texts; no text occurs twice, of which the first is kept."""
    queries = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules():
            for doc in documented(module):
                parts = END_OF_SENTENCE.split(SIGNATURES.sub("", doc or ""), maxsplit=1)
                enough = len(parts) == 2 and len(parts[0].split()) >= 3
                if enough and len(parts[1].split()) >= 20:
                    queries.setdefault(parts[1], parts[0])
    unique = {query: passage for passage, query in reversed(queries.items())}
    order = sorted(unique)
    return order, [unique[query] for query in order]


def bags(texts, buckets):
    """`(N, buckets)` float32: `log(1 + count)` of the words that fall into each bucket."""
    counts = np.zeros((len(texts), buckets), "float32")
    for row, text in enumerate(texts):
        for word in re.findall("[a-z]+", text.lower()):
            counts[row, zlib.crc32(word.encode()) % buckets] += 1
    return np.log1p(counts)
