"""The catalogue's own behaviour."""

import pytest

from keras_zoo import list_components
from keras_zoo._catalog import component


def test_kinds_papers_and_patterns():
    losses = list_components(kind="loss")
    assert {c.kind for c in losses} == {"loss"}
    assert "MultiSimilarityLoss" in [c.name for c in losses]
    assert {c.paper for c in list_components(paper="weighted-conv")} == {"weighted-conv"}
    assert [c.name for c in list_components(pattern="multisim*")] == ["MultiSimilarityLoss"]
    one = list_components(pattern="MultiSimilarityLoss")[0]
    assert (one.arxiv, one.path) == ("1904.06627", "keras_zoo.losses.MultiSimilarityLoss")


@pytest.mark.parametrize("argument", ["kind", "paper"])
def test_unknown_kind_or_paper(argument):
    with pytest.raises(
        ValueError, match=rf"`{argument}` must be one of .*Received: {argument}='x'"
    ):
        list_components(**{argument: "x"})


def test_component_refusals():
    with pytest.raises(ValueError, match="`paper` must be one of"):
        component(paper="unheard-of")

    def without_words():
        pass

    without_words.__module__ = "keras_zoo.losses.x"
    with pytest.raises(ValueError, match="needs a docstring"):
        component(paper="weighted-conv")(without_words)

    def MultiSimilarityLoss():
        """Another of the name."""

    MultiSimilarityLoss.__module__ = "keras_zoo.losses.x"
    with pytest.raises(ValueError, match="one name"):
        component(paper="multi-similarity")(MultiSimilarityLoss)
