"""What every loss of the zoo shares."""

import keras


class ZooLoss(keras.losses.Loss):
    """A `keras.losses.Loss` whose config also holds its `dtype`, which Keras's own drops."""

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "dtype": self._dtype_policy.name}
