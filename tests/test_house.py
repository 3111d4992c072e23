"""The rules of the house: floors, frameworks, what an import costs and brings."""

import ast
import compileall
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_zoo
from tests.harness import BACKEND

PACKAGE = pathlib.Path(__file__).parent.parent / "keras_zoo"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up; a room imports from lower floors, or from its own.
FLOORS = [
    {"_backend", "_catalog", "_checks", "_presets"},
    {"ops"},
    {"losses", "layers", "metrics", "regularizers", "samplers", "simulators"},
    {"trainers", "callbacks", "datasets"},
    {"models"},
    {"compression", "rl"},
    {"cli", "_demo"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
FRAMEWORKS = {"tensorflow", "torch", "jax", "jaxlib", "flax"}


def imports(path):
    """Full names of all that a file imports, and whether keras_zoo's part is a package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] in FRAMEWORKS:
            assert room == "_backend", f"{name} is imported outside _backend.py"
        if parts[0] == "keras_hub":
            assert room == "models", f"{name} is imported outside models"
        if parts[0] == "keras_zoo" and room != "__init__":
            assert parts[1] in FLOOR, f"{parts[1]} stands on no floor"
            own = parts[1] == room or {parts[1], room} <= FLOORS[-1]
            assert own or FLOOR[parts[1]] < FLOOR[room], f"{room} imports {name}"


def test_reductions_that_compilers_follow():
    """Some cut a graph of torch's compiler; `amax`, `amin` and `added` do not."""
    cutting = r"\bops\.(max|min|segment_\w+)\("
    found = [p.name for p in FILES if re.search(cutting, p.read_text())]
    assert not found


def test_custom_gradients_that_have_one_themselves():
    """What Keras's holds from its forward pass is constant to torch's second derivatives."""
    found = [p.name for p in FILES if re.search(r"\bops\.custom_gradient\b", p.read_text())]
    assert not found


def test_no_circles():
    """Inside a room files may import one another, but not in a ring."""
    module = {
        ".".join(("keras_zoo", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in FILES
    }
    edges = {
        name: {
            target
            for imported in imports(path)
            for target in (imported, imported.rsplit(".", 1)[0])
            if target in module and target != name
        }
        for name, path in module.items()
    }
    done = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in edges[name]:
                visit(target, [*trail, name])
            done.add(name)

    for name in edges:
        visit(name, [])


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bpickle\b",
        r"\bLambda\(",
        r"NotImplementedError",
        r"safe_mode\s*=\s*False",
        r"enable_unsafe_deserialization",
        r"allow_pickle\s*=\s*True",
        r"\b(TODO|FIXME)\b",
        r"backend\(\)\s*(==|!=|in)",
    ],
)
def test_what_no_file_may_hold(pattern):
    for path in FILES:
        if re.search(pattern, path.read_text()):
            assert path.name == "_backend.py", f"{path}: {pattern}"
            assert "backend" in pattern, f"{path}: {pattern}"


def python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


# Every finder, behind a screen that hides the other frameworks.
HIDDEN = FRAMEWORKS - ({"jax", "jaxlib", "flax"} if BACKEND == "jax" else {BACKEND})
ONLY = f"""
import sys

class Screen:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HIDDEN!r}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Screen(finder) for finder in sys.meta_path]
"""


@pytest.mark.slow
def test_import():
    """It is quick, brings no second framework and no keras-hub, and rooms wait until asked for.

    At most 0.2 s over `import keras`; the best of three, since machines are shared. From bytecode,
    as where a package is installed.
    """
    compileall.compile_dir(PACKAGE, quiet=1)
    code = """
import sys, time, keras
before, start = set(sys.modules), time.process_time()
import keras_zoo
seconds = time.process_time() - start
brought = set(sys.modules) - before
assert "models" in dir(keras_zoo)
keras_zoo.callbacks.RetrievalEvaluation
print(repr((seconds, brought)))
"""
    for _ in range(3):
        seconds, brought = ast.literal_eval(python(code).splitlines()[-1])
        heavy = {"keras_hub", "scipy", "sklearn", "matplotlib", "skimage"}
        assert not {name.split(".")[0] for name in brought} & (FRAMEWORKS | heavy)
        assert not {"keras_zoo.models", "keras_zoo.callbacks"} & brought
        if seconds < 0.2:
            return
    raise AssertionError(f"`import keras_zoo` took {seconds:.2f} s")


def test_no_room_of_that_name():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        keras_zoo.nothing_of_the_kind  # noqa: B018


@pytest.mark.slow
def test_works_with_only_one_framework():
    """With the other frameworks out of reach: everything imports, and a loss trains."""
    python(
        ONLY
        + f"HIDDEN = {HIDDEN!r}"
        + """
import importlib.util
import keras, numpy as np, keras_zoo
assert not any(importlib.util.find_spec(name) for name in HIDDEN)
names = [c.name for c in keras_zoo.list_components()]
assert "MultiSimilarityLoss" in names, names
assert isinstance(keras_zoo.list_presets(), dict)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compile("sgd", keras_zoo.losses.MultiSimilarityLoss())
model.fit(np.ones((6, 4)), np.array([0, 0, 1, 1, 2, 2]), verbose=0)
gradient = keras_zoo.ops.input_gradient(lambda x: keras.ops.sum(x, -1), np.ones((2, 2), "float32"))
assert keras.ops.convert_to_numpy(gradient).tolist() == [[1, 1], [1, 1]]
"""
    )


@pytest.mark.slow
def test_a_saved_loss_loads_after_import_alone(tmp_path):
    path = str(tmp_path / "model.keras")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras_zoo.losses.TripletLoss(margin=0.3))
    model.fit(np.ones((4, 4)), np.ones(4), verbose=0)
    model.save(path)
    python(
        f"import keras, keras_zoo; model = keras.saving.load_model({path!r})\n"
        "assert model.loss.margin == 0.3"
    )


@pytest.mark.slow
def test_models_without_keras_hub_name_the_extra():
    python(
        "import sys; sys.modules['keras_hub'] = None\n"
        "import keras_zoo\n"
        "try:\n    keras_zoo.models\n"
        "except ImportError as error:\n    assert 'keras-zoo[models]' in str(error), error\n"
        "else:\n    raise SystemExit('no error')"
    )
