"""Small heads under an ultrasound transducer, simulated (Srivastav et al., 2025)."""

import math

import numpy as np

from keras_zoo._catalog import component
from keras_zoo._checks import check_count, check_number
from keras_zoo.simulators import KSpaceSolver, ct_to_acoustic, focused_bowl
from keras_zoo.simulators._progress import Progress

SMALLEST = 12  # Voxels along an edge, below which a skull has no inside.
HU_RANGE = (400.0, 2000.0)  # Of the skull.
POINTS = 128
PML = 6
COURANT = 0.4  # At the most, in the densest bone.
FASTEST, SLOWEST = 3100.0, 1500.0  # m/s, of bone and of water.
RAMP, RECORD = 4, 2
NEAR = 2  # Voxels around a source whose own field drowns all others.


@component(paper="deeptfus")
def skull_phantoms(num_samples, size=24, spacing=1e-3, frequency=2.5e5, seed=0, verbose="auto"):
    """Volumes to learn from: CT of a skull, points of a transducer, and the pressure that it makes.

    A skull is the shell between two ellipsoids, of a random place, shape, orientation and
    thickness, in water; smooth noise makes its CT numbers, 400 to 2000 HU. A random bowl outside
    of it aims at a random place inside. `KSpaceSolver` computes the steady state, with absorption
    of the power 1.5, and a layer of 6 voxels around the volume that swallows what leaves it.

    Args:
        num_samples: int > 0, n.
        size: int of at least 12, S, the voxels along each edge.
        spacing: float > 0, of the voxels, in m.
        frequency: float > 0, in Hz. A wave in water should have 3 voxels at least; by default it
            has 6.
        seed: int >= 0. Sample i depends on `(seed, i)` alone: a longer set begins with a shorter.
        verbose: 1 for a progress bar, 0 for none, `"auto"` for one after two seconds in a terminal.

    Returns:
        Dict of float32 arrays, as the model takes them:

        * `"images"` `(n, S, S, S, 1)`: CT numbers, 0 to 2000 HU as 0 to 1. Water is 0.
        * `"transducer_points"` `(n, 128, 3)`: voxels of the bowl, 0 to S - 1 as -1 to 1, drawn
          from all, in a random order; of a bowl with fewer than 128, some occur again.
        * `"pressure"` `(n, S, S, S)`: `log(1 + p / max p)` of the amplitude p. It is finite, above
          0, and at most log 2, which it is where the focus is. Within 2 voxels of the bowl, whose
          near field would drown the focus, it is the smallest value of the rest.

        The steps of a period are chosen so that the Courant number is 0.4 at most.

    Raises:
        ValueError: an argument is out of its range.
        FloatingPointError: a simulation blew up.

    Example:
    >>> data = keras_zoo.datasets.skull_phantoms(100)  # seconds each, on one core
    >>> x = {name: data[name] for name in ("images", "transducer_points")}
    >>> model.fit(x, data["pressure"])

    Reference: arXiv:2505.12998, section 4, for the fields and how they are scaled. The heads are
    ours, in the place of the paper's 125 CT scans.
    """
    num_samples = check_count("num_samples", num_samples)
    size = check_count("size", size)
    if size < SMALLEST:
        raise ValueError(f"`size` must be at least {SMALLEST}. Received: size={size}")
    check_number("spacing", spacing, positive=True)
    check_number("frequency", frequency, positive=True)
    check_count("seed", seed, least=0)
    progress = Progress(num_samples, verbose, unit="phantom")
    samples = []
    for i in range(num_samples):
        draw = np.random.default_rng([int(seed), i])
        samples.append(_phantom(draw, size, spacing, frequency))
        progress.update(i + 1)
    names = ("images", "transducer_points", "pressure")
    columns = zip(*samples, strict=True)
    return {
        name: np.stack(column).astype("float32")
        for name, column in zip(names, columns, strict=True)
    }


def _phantom(draw, size, spacing, frequency):
    """One image, its points and its pressure."""
    middle = (size - 1) / 2
    centre = middle + size * draw.uniform(-0.02, 0.02, 3)
    ct = _skull(draw, size, centre)
    # Within these ranges the bowl is clear of the skull, and all but within the volume.
    focus = centre + size * draw.uniform(-0.05, 0.05, 3)
    radius = size * draw.uniform(0.4, 0.42)
    apex = focus + radius * _direction(draw)
    aperture = 2 * radius * draw.uniform(0.75, 0.95)
    bowl = focused_bowl(ct.shape, apex, focus, aperture)
    points = bowl[np.resize(draw.permutation(len(bowl)), POINTS)]
    pressure = _steady_amplitude(ct, bowl, spacing, frequency)
    return (
        ct[..., None] / HU_RANGE[1],
        points / middle - 1,
        _scaled(pressure, _near(ct.shape, bowl)),
    )


def _direction(draw):
    """A random direction, all alike."""
    vector = draw.normal(size=3)
    return vector / np.linalg.norm(vector)


def _skull(draw, size, centre):
    """CT numbers `(S, S, S)`: an ellipsoidal shell of smooth noise in water."""
    outer = size * draw.uniform(0.23, 0.28, 3)
    inner = outer - size * draw.uniform(0.06, 0.1)
    rotation = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    places = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1) - centre
    places = places @ rotation
    within = [np.sum((places / axes) ** 2, axis=-1) <= 1 for axes in (outer, inner)]
    shell = within[0] & ~within[1]
    noise = _smooth_noise(draw, size)
    low, high = noise[shell].min(), noise[shell].max()
    share = (noise - low) / (high - low)
    return np.where(shell, HU_RANGE[0] + (HU_RANGE[1] - HU_RANGE[0]) * share, 0.0)


def _smooth_noise(draw, size):
    """White noise under a Gaussian with a standard deviation of a sixteenth of the edge."""
    k = 2 * np.pi * np.fft.fftfreq(size)
    gaussian = np.exp(-0.5 * (k * size / 16) ** 2)
    window = gaussian[:, None, None] * gaussian[:, None] * gaussian
    return np.fft.ifftn(window * np.fft.fftn(draw.normal(size=(size,) * 3))).real


def _steady_amplitude(ct, bowl, spacing, frequency):
    """Amplitude `(S, S, S)` under a bowl that hums with 1 Pa."""
    size = len(ct)
    steps = 2 * math.ceil(FASTEST / (2 * COURANT * spacing * frequency))
    crossing = math.ceil(1.25 * math.sqrt(3) * size * spacing * frequency / SLOWEST)
    padded = np.pad(ct, PML)
    mask = np.zeros(padded.shape, bool)
    mask[tuple((bowl + PML).T)] = True
    solver = KSpaceSolver(
        padded.shape,
        spacing,
        1 / (steps * frequency),
        pml_size=PML,
        **ct_to_acoustic(padded, sound_speed_range=(SLOWEST, FASTEST)),
    )
    cycles = RAMP + crossing + RECORD
    waves = solver.steady_state(mask, frequency, 1.0, 0.0, cycles, RAMP, RECORD, verbose=0)
    return waves["amplitude"][(slice(PML, -PML),) * 3]


def _near(shape, bowl):
    """Mask of the voxels near the bowl."""
    steps = np.arange(-NEAR, NEAR + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    offsets = offsets[np.sum(offsets**2, axis=1) <= NEAR**2]
    places = (bowl[:, None] + offsets).reshape(-1, 3)
    inside = ((places >= 0) & (places < shape)).all(axis=1)
    mask = np.zeros(shape, bool)
    mask[tuple(places[inside].T)] = True
    return mask


def _scaled(pressure, near):
    """`log(1 + p / max p)`, with the near field out of the way."""
    pressure = np.where(near, pressure[~near].min(), pressure)
    return np.log1p(pressure / pressure.max())
