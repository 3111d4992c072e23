"""What holds for every test."""

import functools

import keras
import pytest


@pytest.fixture(autouse=True)
def torch_compiles_without_codegen(request, monkeypatch):
    """`torch.compile` traces both passes as ever, but runs them without generating C++.

    Tracing is what our code can break; the C++ compiler takes a minute for each training step.
    Tests marked `codegen` go the whole way.
    """
    if keras.backend.backend() == "torch" and not request.node.get_closest_marker("codegen"):
        import torch

        quick = functools.partial(torch.compile, backend="aot_eager")
        monkeypatch.setattr(torch, "compile", quick)
