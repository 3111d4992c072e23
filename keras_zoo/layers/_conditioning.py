"""What the layers that are led by a token share."""


def check_features_and_token(shapes, rank=None):
    """The shapes of features `(B, ..., C)` and of a token `(B, U)`, if that is what they are.

    Args:
        shapes: what a layer's `build` is given.
        rank: int, that of the features; None for any above 1.
    """
    pair = isinstance(shapes, (list, tuple)) and len(shapes) == 2
    if pair and all(isinstance(shape, (list, tuple)) for shape in shapes):
        features, token = (tuple(shape) for shape in shapes)
        fits = len(features) > 1 if rank is None else len(features) == rank
        if fits and len(token) == 2 and features[-1] is not None and token[-1] is not None:
            return features, token
    wanted = "(B, ..., C)" if rank is None else "(B, D, H, W, C)"
    raise ValueError(
        f"`inputs` must be a list of features `{wanted}` and tokens `(B, U)`, with known C and U. "
        f"Received: shapes {shapes}"
    )
