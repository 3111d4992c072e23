"""A real English text: the King James Bible of Debian's packages bible-kjv and bible-kjv-text.

Where the command `bible` is not installed, the packages are fetched with `apt-get download`, which
asks for no rights, and unpacked into the user's cache.
"""

import os
import pathlib
import re
import shutil
import subprocess

PACKAGES = ("bible-kjv", "bible-kjv-text")
WORDS = 789_684


def words():
    """The words of all verses in their order, in lower case."""
    verses = re.findall(r"^ +\d+ (.*)$", _printed(), flags=re.MULTILINE)
    found = re.findall(r"[a-z]+(?:'[a-z]+)?", " ".join(verses).lower())
    if len(found) != WORDS:
        raise RuntimeError(f"`bible` did not print the whole text. Received: {len(found)} words")
    return found


def _printed():
    """What the program prints: one verse a line, with its number."""
    program, data = shutil.which("bible"), []
    if program is None:
        root = _fetched()
        program, data = root / "usr/bin/bible", ["-p", root / "usr/lib"]
    command = [program, *data, "-l100000", "gen1:1-rev22:21"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return done.stdout.decode("ascii")


def _fetched():
    """Folder that the two packages are unpacked in."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = home / "keras_zoo" / "bible-kjv"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)
            for package in folder.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                "The text is in Debian's packages bible-kjv and bible-kjv-text, which could not be "
                "fetched: install them (`apt-get install bible-kjv`), or try again when the "
                f"package registry can be reached. Received: {error}"
            ) from error
        (folder / "complete").touch()
    return folder
