"""Group normalisation with groups of about 32 channels."""

import keras


def group_norm(filters, **kwargs):
    """Group normalisation of `filters` channels, in `filters // 32` groups if these are even.

    Args:
        filters: int.
        **kwargs: `axis`, `dtype`, `name` of `keras.layers.GroupNormalization`.
    """
    groups = max(1, filters // 32)
    while filters % groups:
        groups -= 1
    return keras.layers.GroupNormalization(groups, epsilon=1e-5, **kwargs)
