"""Short English texts of four domains, whose sentiment people rated (Hutto and Gilbert, 2014)."""

import ast
import hashlib
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_choice

DOMAINS = {
    "tweets": "tweets",
    "amazon": "amazonReviewSnippets",
    "movies": "movieReviewSnippets",
    "newspaper": "nytEditorialSnippets",
}
PACKAGE = "vaderSentiment==3.3.2"
FILE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"


@component(paper="arabic-emotion")
def rated_texts(domain, cache_dir=None):
    """Short English texts of one domain, with what some twenty raters said of their sentiment.

    They come with the source package of vaderSentiment 3.3.2 (2.4 MB, MIT licence), which `pip`
    fetches the first time, from the package index that it is set up for. The file's SHA-256 is
    checked whenever it is read.

    Args:
        domain: "tweets" (4,200 texts), "amazon" (3,708 sentences of product reviews), "movies"
            (10,605 of film reviews) or "newspaper" (5,190 of editorials).
        cache_dir: folder in which the file is kept. None for `datasets` in Keras's own.

    Returns:
        Dict, in the order of the file:

        * `"texts"`: list of N str.
        * `"ratings"` `(N,)`: float32, mean of the ratings, from -4, most negative, to 4.
        * `"raters"`: list of N int32 arrays, the single ratings.

    Raises:
        ValueError: `domain` is unknown; the file that was fetched is not the one that is meant.
        ConnectionError: the file is not there, and `pip` cannot fetch it.

    Example:
    >>> data = keras_zoo.datasets.rated_texts("tweets")
    >>> len(data["texts"]), data["ratings"].shape
    (4200, (4200,))

    Reference: C. J. Hutto and E. Gilbert, VADER, ICWSM 2014. Stands in for the Arabic tweets of
    arXiv:2410.03979, which no package carries.
    """
    check_choice("domain", domain, DOMAINS)
    name = f"hutto_ICWSM_2014/{DOMAINS[domain]}"
    with (
        tarfile.open(_fetched(cache_dir)) as outer,
        tarfile.open(fileobj=outer.extractfile(INNER)) as inner,
    ):
        truth, single = (
            _rows(inner.extractfile(f"{name}_{part}.txt").read())
            for part in ("GroundTruth", "anonDataRatings")
        )
    raters = {row[0]: np.array(ast.literal_eval(row[3]), "int32") for row in single}
    return {
        "texts": [text for _, _, text in truth],
        "ratings": np.array([float(mean) for _, mean, _ in truth], "float32"),
        "raters": [raters[key] for key, _, _ in truth],
    }


def _rows(content):
    """The cells of each line; one of the files begins with a byte order mark."""
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n")
    return [line.rstrip("\r").split("\t") for line in lines if line.strip()]


def _fetched(cache_dir):
    """Path of the package's file, which is fetched unless it is there."""
    home = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
    folder = pathlib.Path(os.path.join(home, "datasets") if cache_dir is None else cache_dir)
    path = folder / FILE
    if path.is_file() and _sum(path) == SHA256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", scratch, PACKAGE]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        found = pathlib.Path(scratch) / FILE
        if result.returncode or not found.is_file():
            said = (result.stderr.strip() or "nothing").splitlines()[-1]
            raise ConnectionError(
                f"`pip download {PACKAGE}` failed; is the package index out of reach? A copy of "
                f"{FILE} in {folder} will do. Received: {said}"
            )
        if _sum(found) != SHA256:
            raise ValueError(
                f"{FILE} must have the SHA-256 {SHA256}. Received: SHA-256 {_sum(found)}"
            )
        os.replace(found, path)
    return path


def _sum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
