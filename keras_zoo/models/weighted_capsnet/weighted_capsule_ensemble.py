"""One network for each domain, weighed by how much a text belongs to it."""

import keras
import numpy as np
from keras import ops

from keras_zoo._catalog import component
from keras_zoo._checks import check_labels
from keras_zoo.layers import DomainBelongingDegree


@component(paper="weighted-capsnet")
class WeightedCapsuleEnsemble(keras.Model):
    """Adds up what the members say of a text, each as much as the text belongs to its domain.

        output(x) = sum_d belonging(x)_d member_d(x)                       (num_classes,)

    which is not divided by anything: scores of capsules do not sum to 1 either.

    Args:
        members: list of layers or models from ids of words `(B, T)` to scores `(B, num_classes)`,
            one for each domain, in the order of the domains.
        belonging: a `DomainBelongingDegree` of as many domains.
        **kwargs: `name`, `dtype` of `keras.Model`; members keep their own `dtype`.

    Inputs: int ids `(B, T)`.
    Output: `(B, num_classes)`, float32. The class is the greatest score, the domain the greatest
    weight.

    `fit_members` is the paper's training: each member on the texts of its domain alone. Compiled
    itself, the ensemble can also be trained, or trained on, as one network.

    Raises:
        ValueError: `members` are not as many layers as there are domains; `belonging` is no
            `DomainBelongingDegree`.

    Example:
    >>> members = [keras_zoo.models.CapsuleTextClassifier(50, num_classes=2) for _ in range(3)]
    >>> for member in members:
    ...     member.compile("adam", keras_zoo.losses.MarginLoss())
    >>> belonging = keras_zoo.layers.DomainBelongingDegree(3, vocabulary_size=50, sharpness=16)
    >>> model = keras_zoo.models.WeightedCapsuleEnsemble(members, belonging)
    >>> ids, y = np.random.randint(0, 50, (30, 9)), np.random.randint(0, 2, 30)
    >>> histories = model.fit_members(ids, y, domains=np.arange(30) % 3, verbose=0)
    >>> model.predict(ids, verbose=0).shape, model.predict_domain(ids).shape
    ((30, 2), (30,))

    Reference: arXiv:2306.17068.
    """

    def __init__(self, members, belonging, **kwargs):
        if not isinstance(belonging, DomainBelongingDegree):
            raise ValueError(
                f"`belonging` must be a DomainBelongingDegree. Received: belonging={belonging!r}"
            )
        layers = isinstance(members, (list, tuple)) and all(
            isinstance(member, keras.layers.Layer) for member in members
        )
        if not layers or len(members) != belonging.num_domains:
            raise ValueError(
                f"`members` must be a list of {belonging.num_domains} layers, one for each domain. "
                f"Received: members={members!r}"
            )
        super().__init__(**kwargs)
        self.members = list(members)
        self.belonging = belonging
        self.built = all(member.built for member in members)

    def build(self, input_shape):
        """Builds those members that are not."""
        for member in self.members:
            if not member.built:
                member.build(input_shape)

    def call(self, token_ids, training=None):
        """The weighted sum."""
        weights = ops.cast(self.belonging(token_ids), "float32")
        scores = [member(token_ids, training=training) for member in self.members]
        scores = ops.stack([ops.cast(score, "float32") for score in scores])
        return ops.einsum("bd,dbc->bc", weights, scores)

    def domain_weights(self, ids):
        """How much each text belongs to each domain, numpy `(B, D)`."""
        return ops.convert_to_numpy(self.belonging(ids))

    def predict_domain(self, ids):
        """The domain that each text belongs to most, numpy ints `(B,)`."""
        return np.argmax(self.domain_weights(ids), axis=1)

    def fit_members(self, x, y, domains, **fit_kwargs):
        """Adapts `belonging` to all texts, and fits each member to those of its domain.

        Args:
            x: int ids `(N, T)`.
            y: targets of the members' loss, `(N, ...)`.
            domains: int `(N,)`, in `[0, D)`. Each must occur.
            **fit_kwargs: of the members' `fit`; `sample_weight` is `(N,)`.

        Returns:
            List of a dict for each member, the `history` of its `fit`.

        Raises:
            ValueError: lengths differ, a domain is out of range or without texts, or a member is
                not compiled. Nothing has changed then.
        """
        weights = fit_kwargs.pop("sample_weight", None)
        x, y, labels, weights = self._checked_examples(x, y, domains, weights)
        for d, member in enumerate(self.members):
            if not getattr(member, "compiled", False):
                raise ValueError(
                    f"`members` must be compiled models. Received: member {d}, {member.name!r}"
                )
        self.belonging.adapt(x, labels)
        histories = []
        for d, member in enumerate(self.members):
            mine = labels == d
            given = {} if weights is None else {"sample_weight": weights[mine]}
            histories.append(member.fit(x[mine], y[mine], **given, **fit_kwargs).history)
        return histories

    def _checked_examples(self, x, y, domains, sample_weight=None):
        """What `fit_members` is given as numpy arrays, if it is sound.

        Raises:
            ValueError: lengths differ, or a domain is out of range or without texts.
        """
        x, y = np.asarray(ops.convert_to_numpy(x)), np.asarray(ops.convert_to_numpy(y))
        labels = check_labels("domains", ops.convert_to_numpy(domains))
        weights = None if sample_weight is None else np.asarray(sample_weight)
        rows = [len(x), len(y), len(labels)] + ([] if weights is None else [len(weights)])
        if len(set(rows)) > 1:
            raise ValueError(
                "`x`, `y`, `domains` and `sample_weight` must have as many rows. "
                f"Received: {rows} rows"
            )
        counts = [int(np.sum(labels == d)) for d in range(len(self.members))]
        if not all(counts) or sum(counts) < len(labels):
            raise ValueError(
                f"`domains` must be from 0 to {len(self.members) - 1}, each of which must occur. "
                f"Received: domains {np.unique(labels)}"
            )
        return x, y, labels, weights

    def compute_output_shape(self, input_shape):
        """`(B, num_classes)`."""
        return self.members[0].compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        own = {
            "members": [keras.saving.serialize_keras_object(member) for member in self.members],
            "belonging": keras.saving.serialize_keras_object(self.belonging),
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model made of the constructor's arguments."""
        members = [
            keras.saving.deserialize_keras_object(member, custom_objects)
            for member in config["members"]
        ]
        belonging = keras.saving.deserialize_keras_object(config["belonging"], custom_objects)
        return cls(**{**config, "members": members, "belonging": belonging})
