"""Layers made of layers."""

import re

import keras


class CompositeLayer(keras.layers.Layer):
    """A layer whose config also holds the policies of sublayers that were quantized.

    Sublayers are made with `dtype=self.sublayer_dtype` and a name.
    """

    @property
    def sublayer_dtype(self):
        """What a sublayer takes as its `dtype`: a policy, or a map from paths to policies."""
        return self._dtype_policy

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        policies = keras.dtype_policies.DTypePolicyMap(self.dtype_policy)
        for layer in self._flatten_layers(include_self=False):
            if layer.quantization_mode is not None:
                # From this layer on: a Sequential stands in the path of what it has built itself,
                # but not of what it has loaded.
                path = re.escape(self.name + layer.path.removeprefix(self.path))
                policies[f"(.*/)?{path}"] = layer.dtype_policy
        if len(policies):
            config["dtype"] = keras.dtype_policies.serialize(policies)
        return config
