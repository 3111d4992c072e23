import os

import keras
import numpy as np
import pytest
from keras import ops

keras_hub = pytest.importorskip("keras_hub")
from keras_zoo.models import (  # noqa: E402
    StackedEmbeddingBackbone,
    StackedEmbeddingClassifier,
    StackedEmbeddingPreprocessor,
    SubwordEncoder,
    WordVectors,
)
from tests.harness import assert_close, to_numpy  # noqa: E402

RNG = np.random.default_rng(0)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "glad", "sad", "##ly", "so", ":", ")"]
TEXTS = ["So gladly :)", "sad", "", "so so so sadly"]
LENGTH = 8


def bert(dim=4):
    keras.utils.set_random_seed(dim)
    return keras_hub.models.BertBackbone(
        len(PIECES),
        num_layers=1,
        num_heads=1,
        hidden_dim=dim,
        intermediate_dim=3,
        max_sequence_length=LENGTH,
    )


def roberta():
    """Another kind of backbone and of subwords: pairs of bytes, with the space before a word."""
    words = ["<s>", "<pad>", "</s>", "<mask>", "s", "o", "Ġ", "g", "l", "so", "Ġg", "Ġgl", "x"]
    tokenizer = keras_hub.tokenizers.RobertaTokenizer(
        vocabulary={word: i for i, word in enumerate(words)}, merges=["s o", "Ġ g", "Ġg l"]
    )
    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.RobertaBackbone(
        len(words),
        num_layers=1,
        num_heads=1,
        hidden_dim=3,
        intermediate_dim=3,
        max_sequence_length=LENGTH,
    )
    return backbone, tokenizer


@pytest.fixture(scope="module")
def vectors():
    return WordVectors(["so", "glad", ":)"], RNG.normal(size=(3, 2)))


@pytest.fixture(scope="module")
def encoder():
    return SubwordEncoder(bert(), keras_hub.tokenizers.BertTokenizer(PIECES), "mean", LENGTH)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """A keras-hub preset, as an address would bring it."""
    path = tmp_path_factory.mktemp("preset")
    encoder.backbone.save_to_preset(str(path))
    encoder.tokenizer.save_to_preset(str(path))
    return path


# Encoders


def test_word_vectors(vectors):
    assert vectors.dim == 2
    found = vectors.encode([["so", "what", ":)"], []], 4)
    rows = vectors.vectors
    assert_close(found[0], np.stack([rows[0], 0 * rows[0], rows[2], 0 * rows[0]]), 0, 0)
    assert not found[1].any()
    assert vectors.encode([["what", "so"]], 1).tolist() == [[[0, 0]]]


def test_tokens_of_words(encoder):
    found = encoder.tokenize([["so", "gladly"], [], ["so", "sad", "gladly", "gladly", "sad"]], 4)
    cls, sep, so, sad, glad, ly = 2, 3, 8, 6, 5, 7
    assert found["token_ids"].tolist() == [
        [cls, so, glad, ly, sep, 0, 0, 0],
        [cls, sep, 0, 0, 0, 0, 0, 0],
        # The end has its place, so the last word that there is room for is left out as a whole.
        [cls, so, sad, glad, ly, glad, ly, sep],
    ]
    assert found["padding_mask"].sum(axis=1).tolist() == [5, 2, 8]
    expected = np.zeros((3, 4, LENGTH))
    expected[0, 0, 1] = 1
    expected[0, 1, 2:4] = 0.5
    expected[2, 0, 1] = expected[2, 1, 2] = 1
    expected[2, 2, 3:5] = expected[2, 3, 5:7] = 0.5
    assert_close(found["pooling"], expected, 0, 0)
    full = encoder.tokenize([["so"] * 6 + ["gladly", "so"]], 8)
    assert full["token_ids"].tolist() == [[cls] + 6 * [so] + [sep]]
    assert full["pooling"].sum(axis=2).tolist() == [[1] * 6 + [0, 0]]


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_embeddings_of_words(encoder, pooling):
    """As the backbone gives them for the whole text."""
    encoder = SubwordEncoder(encoder.backbone, encoder.tokenizer, pooling, LENGTH)
    ids = np.array([[2, 8, 5, 7, 3, 0, 0, 0]])
    inputs = {"token_ids": ids, "padding_mask": ids != 0, "segment_ids": 0 * ids}
    output = to_numpy(encoder.backbone(inputs)["sequence_output"])[0]
    second = output[2] if pooling == "first" else (output[2] + output[3]) / 2
    expected = np.stack([output[1], second, 0 * second])
    assert_close(encoder.encode([["so", "gladly"]], 3)[0], expected)
    assert encoder.dim == 4


def test_another_kind_of_backbone():
    encoder = SubwordEncoder(*roberta(), token_length=LENGTH)
    found = encoder.tokenize([["so", "gl"], ["gl"]], 3)
    assert "segment_ids" not in found
    # A space before "gl" where it is not the first.
    assert found["token_ids"].tolist() == [[0, 9, 11, 2] + 4 * [1], [0, 7, 8, 2] + 4 * [1]]
    ids = found["token_ids"][:1]
    output = to_numpy(encoder.backbone({"token_ids": ids, "padding_mask": ids != 1}))[0]
    assert_close(encoder.encode([["so", "gl"]], 2)[0], output[1:3])


def test_an_encoder_of_words_that_learns_along(encoder):
    """`tokenize` gives the inputs of a model that holds the backbone."""
    words = [["so", "gladly"], ["sad"]]
    inputs = {
        name: keras.Input((LENGTH,), dtype="int32", name=name) for name in encoder.backbone.input
    }
    pooling = keras.Input((3, LENGTH), name="pooling")
    embedding = ops.matmul(pooling, encoder.backbone(inputs)["sequence_output"])
    model = keras.Model({**inputs, "pooling": pooling}, embedding)
    assert_close(model(encoder.tokenize(words, 3)), encoder.encode(words, 3))
    assert len(model.trainable_weights) == len(encoder.backbone.trainable_weights)


# The preprocessor


def test_words():
    def split(text, **how):
        return StackedEmbeddingPreprocessor([WordVectors(["a"], [[1]])], **how).split(text)

    assert split("It's SO good:-)") == ["it's", "so", "good", ":-)"]
    assert split("So", lowercase=False) == ["So"]
    # Alef with hamza, shadda and fatha.
    word = "\u0623\u0646\u0651\u064e\u0627"
    assert split(word) == [word]
    assert split(word, arabic=True) == ["\u0627\u0646\u0627"]


def test_the_preprocessor(vectors, encoder):
    preprocessor = StackedEmbeddingPreprocessor([vectors, encoder], 3)
    assert preprocessor.embedding_dims == (2, 4)
    words = [["so", "gladly", ":)"], ["sad"], [], ["so", "so", "so"]]
    x, y, weight = preprocessor(TEXTS, y=np.eye(4), sample_weight=np.arange(4.0))
    assert_close(x["embedding_0"], vectors.encode(words, 3), 0, 0)
    assert_close(x["embedding_1"], encoder.encode(words, 3))
    assert x["padding_mask"].sum(axis=1).tolist() == [3, 1, 0, 3]
    assert x["padding_mask"].dtype == bool
    np.testing.assert_array_equal(np.asarray(y), np.eye(4))
    np.testing.assert_array_equal(np.asarray(weight), np.arange(4.0))
    for texts in (np.array(TEXTS), np.array(TEXTS, object), tuple(TEXTS)):
        assert_close(preprocessor(texts)["embedding_1"], x["embedding_1"], 0, 0)
    assert_close(preprocessor("so")["embedding_0"][0, 0], vectors.vectors[0], 0, 0)
    assert not preprocessor.weights


def test_from_texts_to_labels_and_back_from_files(vectors, folder, tmp_path):
    encoders = [vectors, SubwordEncoder.from_preset(folder, "mean", LENGTH)]
    preprocessor = StackedEmbeddingPreprocessor(encoders, 4)
    backbone = StackedEmbeddingBackbone((2, 4), 3, 2)
    task = StackedEmbeddingClassifier(backbone, 2, 3, preprocessor=preprocessor)
    frozen = [to_numpy(w).copy() for w in encoders[1].backbone.weights]
    count = len(task.weights)
    task.fit(TEXTS, np.eye(4, 2), verbose=0)
    for weight, before in zip(encoders[1].backbone.weights, frozen, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), before)
    assert count == len(task.weights) == 12
    expected = task.predict(TEXTS, verbose=0)
    assert_close(task(preprocessor(TEXTS)), expected)
    task.save_to_preset(tmp_path / "preset")
    task.save(tmp_path / "model.keras")
    for again in (
        StackedEmbeddingClassifier.from_preset(tmp_path / "preset"),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        loaded = again.preprocessor
        assert loaded.embedding_dims == (2, 4)
        np.testing.assert_array_equal(loaded.encoders[0].vectors, vectors.vectors)
        assert loaded.encoders[0].vocabulary == vectors.vocabulary
        assert loaded.get_config() == preprocessor.get_config()
        assert_close(again(loaded(TEXTS)), expected, 1e-6, 1e-6)


def test_addresses_are_presets(folder, vectors):
    for preset in (folder, str(folder)):
        made = StackedEmbeddingPreprocessor([vectors, preset], 3)
        (_, encoder) = made.encoders
        assert encoder.preset == os.fspath(folder)
        assert (encoder.pooling, encoder.token_length) == ("first", LENGTH)


def test_half_the_space_where_nothing_is_lost(tmp_path):
    for scale, dtype in ((1.0, "float16"), (1 / 3, "float32")):
        words = WordVectors(["a", "b"], scale * np.eye(2))
        made = StackedEmbeddingPreprocessor([words])
        made.save_assets(str(tmp_path))
        with np.load(tmp_path / "word_vectors.npz") as file:
            assert file["vectors_0"].dtype == dtype
        again = StackedEmbeddingPreprocessor.from_config(made.get_config())
        again.load_assets(str(tmp_path))
        np.testing.assert_array_equal(again.encoders[0].vectors, words.vectors)


# Refusals


def refused(name, make):
    with pytest.raises(ValueError, match=rf"`{name}` must [\s\S]*Received: "):
        make()


@pytest.mark.parametrize(
    "vocabulary", [[], ["a", "a"], ["a", ""], ["a", "b\n"], "ab", None, [1, 2]]
)
def test_bad_vocabulary(vocabulary):
    refused("vocabulary", lambda: WordVectors(vocabulary, np.ones((2, 2))))


@pytest.mark.parametrize("bad", [np.ones(2), np.ones((3, 2)), [["a"], ["b"]], [[np.nan], [0.0]]])
def test_bad_vectors(bad):
    refused("vectors", lambda: WordVectors(["a", "b"], bad))


def test_bad_subword_encoders(encoder):
    net, tokenizer = encoder.backbone, encoder.tokenizer
    refused("backbone", lambda: SubwordEncoder(keras.Sequential(), tokenizer))
    refused("backbone", lambda: SubwordEncoder(StackedEmbeddingBackbone((2,), 2, 2), tokenizer))
    refused("tokenizer", lambda: SubwordEncoder(net, None))
    plain = keras_hub.tokenizers.WordPieceTokenizer(PIECES)
    refused("tokenizer", lambda: SubwordEncoder(net, plain))
    refused("pooling", lambda: SubwordEncoder(net, tokenizer, "last", LENGTH))
    refused("token_length", lambda: SubwordEncoder(net, tokenizer, token_length=LENGTH + 1))
    refused("token_length", lambda: SubwordEncoder(net, tokenizer, token_length=0))


def test_bad_preprocessors(vectors, encoder):
    refused("encoders", lambda: StackedEmbeddingPreprocessor([]))
    refused("encoders", lambda: StackedEmbeddingPreprocessor(vectors))
    refused("encoders", lambda: StackedEmbeddingPreprocessor([3]))
    refused("sequence_length", lambda: StackedEmbeddingPreprocessor([vectors], 0))
    refused("lowercase", lambda: StackedEmbeddingPreprocessor([vectors], lowercase=1))
    refused("arabic", lambda: StackedEmbeddingPreprocessor([vectors], arabic=None))
    refused("encoders", StackedEmbeddingPreprocessor([encoder]).get_config)
    refused("x", lambda: StackedEmbeddingPreprocessor([vectors])([1, 2]))
    refused("x", lambda: StackedEmbeddingPreprocessor([vectors])(None))
    wide = StackedEmbeddingBackbone((3,), 2, 2)
    refused(
        "preprocessor",
        lambda: StackedEmbeddingClassifier(
            wide, 2, preprocessor=StackedEmbeddingPreprocessor([vectors])
        ),
    )
