"""The catalogue: which public names there are, of which kind, from which paper."""

import dataclasses
import fnmatch
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import keras

PACKAGE = "keras_zoo"

# Rooms hold one kind each. Keras meets the classes of the saved rooms in files, so they are
# imported, and thereby registered, together with the package; the others wait until asked for.
SAVED_ROOMS = {
    "ops": "operation",
    "losses": "loss",
    "layers": "layer",
    "metrics": "metric",
    "trainers": "trainer",
}
LAZY_ROOMS = {
    "callbacks": "callback",
    "samplers": "sampler",
    "simulators": "simulator",
    "datasets": "dataset",
    "models": "model",
}
ROOMS = {**SAVED_ROOMS, **LAZY_ROOMS}

# What a room needs beyond the core, and the extra that installs it.
ROOM_EXTRAS = {"models": ("keras_hub", "models")}


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published paper: what the tables and `keras-zoo show` say of it."""

    title: str
    authors: str
    year: int
    arxiv: str

    @property
    def url(self) -> str:
        """Address of the abstract."""
        return f"https://arxiv.org/abs/{self.arxiv}"


PAPERS = {
    "multi-similarity": Paper(
        "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning",
        "Wang, Han, Huang, Dong, Scott",
        2019,
        "1904.06627",
    ),
    "weighted-conv": Paper(
        "Optimal Weighted Convolution for Classification and Denoising",
        "Cammarasana, Patanè",
        2025,
        "2505.24558",
    ),
    "cwcl": Paper(
        "CWCL: Cross-Modal Transfer with Continuously Weighted Contrastive Loss",
        "Srinivasa, Cho, Yang, Saidutta, Lee, Shen, Jin",
        2023,
        "2309.14580",
    ),
    "unpg": Paper(
        "Unified Negative Pair Generation toward Well-discriminative Feature Space "
        "for Face Recognition",
        "Jung, Lee, Oh, Park, Park, Son",
        2022,
        "2203.11593",
    ),
    "susana-distancia": Paper(
        "SuSana Distancia is all you need: Enforcing class separability in metric learning "
        "via two novel distance-based loss functions for few-shot image classification",
        "Mendez-Ruiz et al.",
        2023,
        "2305.09062",
    ),
    "metrix": Paper(
        "It Takes Two to Tango: Mixup for Deep Metric Learning",
        "Venkataramanan, Psomas, Kijak, Amsaleg, Karantzalos, Avrithis",
        2022,
        "2106.04990",
    ),
    "mw-loss": Paper(
        "Optimizing What Matters: AUC-Driven Learning for Robust Neural Retrieval",
        "Sheikholeslami, Hosseini, Bechard, Daruru, Rajeswar",
        2025,
        "2510.00137",
    ),
    "ldr": Paper(
        "Label Distributionally Robust Losses for Multi-class Classification: "
        "Consistency, Robustness and Adaptivity",
        "Zhu, Ying, Yang",
        2023,
        "2112.14869",
    ),
    "anyloss": Paper(
        "AnyLoss: Transforming Classification Metrics into Loss Functions",
        "Han, Moniz, Chawla",
        2024,
        "2405.14745",
    ),
    "z-loss": Paper(
        "The Z-loss: a shift and scale invariant classification loss belonging to the "
        "Spherical Family",
        "de Brébisson, Vincent",
        2016,
        "1604.08859",
    ),
    "comp-sum": Paper(
        "Cross-Entropy Loss Functions: Theoretical Analysis and Applications",
        "Mao, Mohri, Zhong",
        2023,
        "2304.07288",
    ),
    "ensloss": Paper(
        "EnsLoss: Stochastic Calibrated Loss Ensembles for Preventing Overfitting in "
        "Classification",
        "Dai",
        2025,
        "2409.00908",
    ),
    "discriminative-vs-generative": Paper(
        "Revisiting Discriminative vs. Generative Classifiers: Theory and Implications",
        "Zheng, Wu, Bao, Cao, Li, Zhu",
        2023,
        "2302.02334",
    ),
    "quantile-aggregation": Paper(
        "Flexible Model Aggregation for Quantile Regression",
        "Fakoor, Kim, Mueller, Smola, Tibshirani",
        2023,
        "2103.00083",
    ),
    "dwff-net": Paper(
        "A Method for Identifying Farmland System Habitat Types Based on the Dynamic-Weighted "
        "Feature Fusion Network Model",
        "Zheng, Song, Li, Yao, Bian",
        2025,
        "2511.11659",
    ),
    "deeptfus": Paper(
        "A Skull-Adaptive Framework for AI-Based 3D Transcranial Focused Ultrasound Simulation",
        "Srivastav, Puel, Vappou, Van Houten, Cabras, Padoy",
        2025,
        "2505.12998",
    ),
    "cw-bass": Paper(
        "CW-BASS: Confidence-Weighted Boundary-Aware Learning for Semi-Supervised Semantic "
        "Segmentation",
        "Tarubinga, Kalafatovich, Lee",
        2025,
        "2502.15152",
    ),
    "hyp-oc": Paper(
        "Hyp-OC: Hyperbolic One Class Classification for Face Anti-Spoofing",
        "Narayan, Patel",
        2024,
        "2404.14406",
    ),
    "biofusionnet": Paper(
        "BioFusionNet: Deep Learning-Based Survival Risk Stratification in ER+ Breast Cancer "
        "Through Multifeature and Multimodal Data Fusion",
        "Mondol, Millar, Sowmya, Meijering",
        2024,
        "2402.10717",
    ),
    "weighted-capsnet": Paper(
        "weighted CapsuleNet networks for Persian multi-domain sentiment analysis",
        "Kobari et al.",
        2023,
        "2306.17068",
    ),
    "arabic-emotion": Paper(
        "Improving Arabic Multi-Label Emotion Classification using Stacked Embeddings and Hybrid "
        "Loss Function",
        "Aslam et al.",
        2024,
        "2410.03979",
    ),
}


@dataclasses.dataclass(frozen=True)
class Component:
    """One public name of the catalogue.

    Attributes:
        name: name of the class or function.
        kind: what it is, a value of `ROOMS` such as "loss" or "layer".
        paper: slug of the paper, a key of `PAPERS`.
        arxiv: arXiv id of the paper.
        summary: first line of the docstring.
        path: where it is imported from, `keras_zoo.losses.MultiSimilarityLoss`.
        object: the class or function itself.
    """

    name: str
    kind: str
    paper: str
    arxiv: str
    summary: str
    path: str
    object: Any = dataclasses.field(repr=False, compare=False)


_COMPONENTS: dict[str, Component] = {}

T = TypeVar("T", bound=Callable[..., Any])


def component(paper: str) -> Callable[[T], T]:
    """Lists a public class or function, and registers a class with Keras.

    A class with a `get_config` is registered as `keras_zoo>Name`, so that files that hold it
    load once `keras_zoo` is imported. The kind follows from the room that the file stands in.

    Args:
        paper: slug of the paper, a key of `PAPERS`.

    Raises:
        ValueError: the paper is unknown, the name is taken, or the docstring is missing.
    """
    if paper not in PAPERS:
        raise ValueError(f"`paper` must be one of {sorted(PAPERS)}. Received: paper={paper!r}")

    def decorate(obj: T) -> T:
        name = obj.__name__
        room = obj.__module__.split(".")[1]
        if name in _COMPONENTS and _COMPONENTS[name].object.__module__ != obj.__module__:
            raise ValueError(f"Two components have one name. Received: {name!r}")
        doc = inspect.getdoc(obj)
        if not doc or (inspect.isclass(obj) and "__doc__" not in vars(obj)):
            raise ValueError(f"A component needs a docstring. Received: {name!r}")
        if inspect.isclass(obj) and hasattr(obj, "get_config"):
            keras.saving.register_keras_serializable(package=PACKAGE)(obj)
        _COMPONENTS[name] = Component(
            name=name,
            kind=ROOMS[room],
            paper=paper,
            arxiv=PAPERS[paper].arxiv,
            summary=doc.splitlines()[0],
            path=f"{PACKAGE}.{room}.{name}",
            object=obj,
        )
        return obj

    return decorate


def is_available(room: str) -> bool:
    """Whether what a room needs beyond the core is installed."""
    module, _ = ROOM_EXTRAS.get(room, (None, None))
    return module is None or importlib.util.find_spec(module) is not None


def list_components(
    kind: str | None = None, paper: str | None = None, pattern: str = "*"
) -> list[Component]:
    """The public classes and functions of the zoo, in the order of kind and name.

    Args:
        kind: only this kind, such as `"loss"`.
        paper: only those of this paper, such as `"multi-similarity"`.
        pattern: only names that match this shell pattern, whatever their case.

    Returns:
        A list of `Component`. A room whose extra is not installed is left out: the models need
        `pip install keras-zoo[models]`.

    Raises:
        ValueError: there is no such kind or paper.

    Example:
    >>> [c.name for c in keras_zoo.list_components(kind="callback")]
    ['RetrievalEvaluation']
    """
    if kind is not None and kind not in ROOMS.values():
        raise ValueError(f"`kind` must be one of {sorted(ROOMS.values())}. Received: kind={kind!r}")
    if paper is not None and paper not in PAPERS:
        raise ValueError(f"`paper` must be one of {sorted(PAPERS)}. Received: paper={paper!r}")
    for room in ROOMS:
        if is_available(room):
            importlib.import_module(f"{PACKAGE}.{room}")
    order = list(ROOMS.values())
    found = [
        c
        for c in _COMPONENTS.values()
        if kind in (None, c.kind)
        and paper in (None, c.paper)
        and fnmatch.fnmatch(c.name.lower(), pattern.lower())
    ]
    return sorted(found, key=lambda c: (order.index(c.kind), c.name))
