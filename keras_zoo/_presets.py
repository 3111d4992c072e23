"""Where presets lie, what is known of them, and whether their files are the ones that were made.

A preset is a folder in keras-hub's format with a manifest, `metrics.json`: what the model is, what
it was trained on, how well it does, and the sha256 of every other file. Nothing here imports
keras-hub, so presets can be listed and checked without it.
"""

import difflib
import fnmatch
import hashlib
import json
import os
import pathlib
import re
from typing import Any

MANIFEST = "metrics.json"
GOLDEN = "golden.npz"
CARD = "MODEL_CARD.md"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PresetError(ValueError):
    """A preset that is unknown, incomplete, changed, or not what was asked for."""


def preset_roots() -> list[pathlib.Path]:
    """The folders in which names are looked up, in this order.

    First those that the environment variable `KERAS_ZOO_PRESETS` names (separated as in `PATH`),
    then the copy inside the installed package, then `saved_models/` of a checkout.
    """
    package = pathlib.Path(__file__).resolve().parent
    named = [
        pathlib.Path(p) for p in os.environ.get("KERAS_ZOO_PRESETS", "").split(os.pathsep) if p
    ]
    roots = [*named, package / "saved_models"]
    if (package.parent / "pyproject.toml").is_file():
        roots.append(package.parent / "saved_models")
    return [root for root in roots if root.is_dir()]


def list_presets(pattern: str = "*") -> dict[str, dict[str, Any]]:
    """What is known of the presets on this machine, without loading any.

    Args:
        pattern: shell pattern of names, such as `"*denois*"` or `"dncnn_*"`; tried on the task as
            well, whatever the case.

    Returns:
        Dict of name to metadata: `task`, `task_class`, `backbone`, `parameters`, `input`, `data`,
        `metrics` (with baseline), `seeds`, `licence`, `paper`, `command` (which rebuilds it),
        `files` (sha256 of each) and `path`. A folder whose manifest cannot be read has the one
        entry `error` besides `path`.

    Example:
    >>> keras_zoo.list_presets("dncnn*")["dncnn_weighted_small_photos"]["task"]
    'image denoising'
    """
    found: dict[str, dict[str, Any]] = {}
    for root in preset_roots():
        for folder in sorted(p for p in root.iterdir() if (p / MANIFEST).is_file()):
            if folder.name in found:
                continue
            try:
                metadata = read_manifest(folder)
            except PresetError as error:
                metadata = {"error": str(error)}
            found[folder.name] = {**metadata, "path": str(folder)}
    pattern = pattern.lower()
    return {
        name: data
        for name, data in sorted(found.items())
        if fnmatch.fnmatch(name.lower(), pattern)
        or fnmatch.fnmatch(str(data.get("task", "")).lower(), pattern)
    }


def locate(preset: str | os.PathLike[str]) -> str:
    """The folder of a preset, after all its files were held against its manifest.

    Args:
        preset: a name, or the path of a folder that `save_to_preset` wrote. An address with a
            scheme, such as `hf://user/model`, is handed back as it is: keras-hub fetches it.

    Raises:
        PresetError: there is no such preset, or a file of it is missing, changed, unknown to the
            manifest, or outside of the folder.
    """
    if not isinstance(preset, (str, os.PathLike)) or not str(preset):
        raise PresetError(f"A preset must be a name or a path. Received: preset={preset!r}")
    text = os.fspath(preset)
    if "://" in text:
        return text
    if ".." in pathlib.PurePath(text).parts:
        raise PresetError(
            "A preset must be a name, or the path of a folder without `..` in it. "
            f"Received: preset={text!r}"
        )
    if _NAME.fullmatch(text):
        for root in preset_roots():
            folder = root / text
            if folder.is_dir():
                if folder.resolve().parent != root.resolve():
                    raise PresetError(
                        f"The preset leads out of its folder {str(root)!r}. "
                        f"Received: preset={text!r}"
                    )
                verify(folder)
                return str(folder)
    folder = pathlib.Path(text)
    if folder.is_dir():
        # A folder of the user's own: one that keras-hub alone has written has no manifest.
        if (folder / MANIFEST).exists():
            verify(folder)
        return str(folder)
    names = list(list_presets())
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.4) or names[:5]
    hint = f"Nearest: {', '.join(near)}." if near else "There are none on this machine."
    raise PresetError(f"There is no preset of this name. {hint} Received: preset={text!r}")


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a preset folder, checked for its form."""
    path = pathlib.Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PresetError(f"A file of the preset is missing. Received: {str(path)!r}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise PresetError(
            f"A file of the preset is damaged ({type(error).__name__}). Received: {str(path)!r}"
        ) from None
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(v, str) and _SHA256.fullmatch(v) for v in files.values()
    ):
        raise PresetError(
            "A file of the preset is damaged: `files` must give the sha256 of each file. "
            f"Received: {str(path)!r}"
        )
    return manifest


def verify(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Holds every file of a preset against its manifest, before anything is loaded.

    Returns:
        The manifest.

    Raises:
        PresetError: a file is missing, changed, unknown to the manifest, or leads out of the
            folder.
    """
    folder = pathlib.Path(folder)
    manifest = read_manifest(folder)
    inside = folder.resolve()
    listed = set(manifest["files"])
    present = {path.relative_to(folder).as_posix() for path in _files(folder)}
    for name in sorted(listed | present):
        path = folder / name
        relative = pathlib.PurePosixPath(name)
        if (
            relative.is_absolute()
            or ".." in relative.parts
            or not path.resolve().is_relative_to(inside)
        ):
            raise PresetError(f"A file leads out of the preset's folder. Received: {str(path)!r}")
        if name not in listed:
            raise PresetError(
                "The preset's folder holds a file that is not part of the preset. "
                f"Received: {str(path)!r}"
            )
        if not path.is_file():
            raise PresetError(f"A file of the preset is missing. Received: {str(path)!r}")
        if _sha256(path) != manifest["files"][name]:
            raise PresetError(
                "A file of the preset is damaged: its sha256 is not the manifest's. "
                f"Received: {str(path)!r}"
            )
    return manifest


def write_manifest(folder: str | os.PathLike[str], **metadata: Any) -> dict[str, Any]:
    """Writes `metrics.json`: the metadata, and the sha256 of every other file in the folder.

    Args:
        folder: a folder that `save_to_preset` wrote.
        **metadata: what `list_presets` shall tell. What an earlier manifest said is dropped, since
            it spoke of an earlier model.

    Returns:
        The manifest.
    """
    folder = pathlib.Path(folder)
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}
    manifest = {"name": folder.name, **metadata, "files": dict(sorted(files.items()))}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Everything in a preset's folder but the manifest, hidden files and plain folders."""
    return [
        path
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir())
        and path != folder / MANIFEST
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
