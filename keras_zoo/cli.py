"""The command `keras-zoo`: what the zoo holds, what a thing is, and a demonstration."""

import argparse
import difflib
import importlib.util
import inspect
import os
import pathlib
import subprocess
import sys

import keras
from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Table

from keras_zoo import _catalog, _presets
from keras_zoo._backend import BACKENDS

# Largest difference that a preset's output may have from its stored one, on any backend.
GOLDEN_TOLERANCE = 1e-5


class UsageError(Exception):
    """What the user asked for cannot be had: one line, exit code 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def main(arguments=None):
    """Runs the command; returns its exit code: 0, 1 for a failed check, 2 for bad arguments."""
    console = Console()
    try:
        options = _parser().parse_args(arguments)
        return options.run(options, console)
    except (UsageError, _presets.PresetError) as error:
        print(f"keras-zoo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser():
    parser = _Parser(prog="keras-zoo", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="components and presets, by name")
    command.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as '*Conv*'")
    command.set_defaults(run=_list)

    command = commands.add_parser("show", help="all about one component or preset")
    command.add_argument("name", metavar="NAME")
    command.set_defaults(run=_show)

    command = commands.add_parser("check", help="hold a preset against its files and its output")
    command.add_argument("name", metavar="NAME")
    command.set_defaults(run=_check)

    command = commands.add_parser("demo", help="a photograph denoised, digits embedded")
    command.add_argument("--backend", choices=BACKENDS, help="default: KERAS_BACKEND")
    command.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo_output"))
    command.set_defaults(run=_demo)
    return parser


def _list(options, console):
    pattern = (
        options.pattern if any(c in options.pattern for c in "*?[") else f"*{options.pattern}*"
    )
    components = _catalog.list_components(pattern=pattern)
    presets = _presets.list_presets(pattern)
    if not components and not presets:
        raise UsageError(f"nothing matches {options.pattern!r}{_nearest(options.pattern)}")
    if components:
        table = Table("component", "kind", "paper", "what it is", title="Components")
        for c in components:
            table.add_row(c.name, c.kind, f"{c.paper} ({c.arxiv})", c.summary)
        console.print(table)
    if presets:
        console.print(_preset_table(presets))
    for room, (_, extra) in _catalog.ROOM_EXTRAS.items():
        if not _catalog.is_available(room):
            console.print(f"The {room} need: pip install 'keras-zoo[{extra}]'", markup=False)
    return 0


def _preset_table(presets):
    table = Table("preset", "task", "parameters", "trained on", title="Presets")
    for name, data in presets.items():
        if "error" in data:
            table.add_row(name, "unreadable", "", data["error"])
        else:
            parameters = f"{data['parameters']:,}" if "parameters" in data else ""
            table.add_row(name, data.get("task", ""), parameters, str(data.get("data", "")))
    return table


def _show(options, console):
    components = {c.name.lower(): c for c in _catalog.list_components()}
    presets = _presets.list_presets()
    if options.name.lower() in components:
        _show_component(components[options.name.lower()], console)
    elif options.name in presets:
        _show_preset(options.name, presets[options.name], console)
    else:
        raise UsageError(
            f"there is no component or preset {options.name!r}{_nearest(options.name)}"
        )
    return 0


def _show_component(component, console):
    paper = _catalog.PAPERS[component.paper]
    console.rule(f"{component.path} ({component.kind})")
    signature = f"{component.name}{inspect.signature(component.object)}"
    console.print(Syntax(signature, "python", word_wrap=True))
    console.print()
    console.print(inspect.getdoc(component.object), markup=False, highlight=False)
    console.print()
    console.print(f"Paper: {paper.title}. {paper.authors}, {paper.year}. {paper.url}", markup=False)
    console.print(f"Try it: examples/{component.paper.replace('-', '_')}.py", markup=False)


def _show_preset(name, data, console):
    console.rule(name)
    card = pathlib.Path(data["path"]) / _presets.CARD
    if card.is_file():
        console.print(Markdown(card.read_text(encoding="utf-8")))
    table = Table("entry", "value", title=_presets.MANIFEST)
    for key, value in _flat(data):
        table.add_row(key, value)
    console.print(table)


def _flat(data, prefix=""):
    """The entries of nested dicts as rows of `(dotted key, text)`."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _check(options, console):
    require("keras_hub", "models")
    folder = _presets.locate(options.name)
    _presets.verify(folder)
    from keras_zoo import models

    task_class = getattr(models, _presets.read_manifest(folder).get("task_class", ""), None)
    if task_class is None:
        raise UsageError(f"the manifest of {options.name!r} names no `task_class` of keras_zoo")
    difference = models.golden_difference(task_class.from_preset(options.name), folder)
    sound = difference <= GOLDEN_TOLERANCE
    console.print(
        f"{options.name} on {keras.backend.backend()}: files sound, largest difference from the "
        f"stored output {difference:.1e} ({'as it should be' if sound else 'TOO LARGE'})",
        markup=False,
        soft_wrap=True,
    )
    return 0 if sound else 1


def _demo(options, console):
    if options.backend and options.backend != keras.backend.backend():
        require(options.backend, options.backend)
        # Keras chooses its backend when it is imported, so another one takes another process.
        command = [sys.executable, "-m", "keras_zoo.cli", "demo", "--out", str(options.out)]
        return subprocess.call(command, env={**os.environ, "KERAS_BACKEND": options.backend})
    require("keras_hub", "demo")
    require("skimage", "demo")
    require("mlxtend", "demo")
    require("matplotlib", "demo")
    from keras_zoo import _demo as demo

    console.print(_preset_table(_presets.list_presets()))
    return demo.run(console, options.out)


def require(module, extra):
    """Raises a `UsageError` that names the extra, if a module is not installed."""
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"{module} is not installed: pip install 'keras-zoo[{extra}]'")


def _nearest(name):
    names = [c.name for c in _catalog.list_components()] + list(_presets.list_presets())
    by_lower = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower().strip("*"), by_lower, n=3, cutoff=0.4)
    return f"; nearest: {', '.join(by_lower[n] for n in near)}" if near else ""


if __name__ == "__main__":
    sys.exit(main())
