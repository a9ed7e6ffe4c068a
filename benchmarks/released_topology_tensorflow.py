"""The released topology on TensorFlow, as a separate process for benchmarks/released_topology.py.

    python released_topology_tensorflow.py WEIGHTS.npz IMAGE.npy OUTPUT.npz

It computes kernel and image once, writes them, and then answers every line of its input, "analysis" or
"synthesis", with the seconds that this stage took. It needs only TensorFlow and NumPy.
The algorithm is that of the released code: whole-image circular Fourier transforms, all 528 products, the
feature maps channels-last in float32, one graph for each network.
"""

import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

LEVELS, MAPS, KERNEL_SIZE, GUIDED, SYNTHESIS_LEVELS = 4, 32, 85, 3, 5


class Weights:
    """Arrays by their PyTorch names, in TensorFlow's order of dimensions."""

    def __init__(self, path: str) -> None:
        self.arrays = dict(np.load(path))

    def convolve(self, x: tf.Tensor, name: str, *, stride: int = 1, padding: str = "SAME") -> tf.Tensor:
        weight = tf.constant(self.arrays[f"{name}.weight"].transpose(2, 3, 1, 0))
        return tf.nn.conv2d(x, weight, stride, padding) + self.arrays[f"{name}.bias"]

    def transposed(self, x: tf.Tensor, name: str, *, padding: str) -> tf.Tensor:
        weight = self.arrays[f"{name}.weight"].transpose(2, 3, 1, 0)
        surplus = weight.shape[0] - 2 if padding == "VALID" else 0
        height, width = (2 * size + surplus for size in x.shape[1:3])
        shape = (1, height, width, weight.shape[2])
        raised = tf.nn.conv2d_transpose(x, tf.constant(weight), shape, 2, padding)
        return tf.nn.relu(raised + self.arrays[f"{name}.bias"])

    def dense(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return x @ self.arrays[f"{name}.weight"].T + self.arrays[f"{name}.bias"]


def correlate(maps: tf.Tensor, largest_lag: int) -> tf.Tensor:
    """Correlate all pairs of (1, H, W, 32) circularly; (1, 2R + 1, 2R + 1, 1056), the flipped ones last."""
    height, width = maps.shape[1:3]
    maps -= tf.reduce_mean(maps, (1, 2), keepdims=True)
    deviation = tf.sqrt(tf.reduce_mean(maps**2, (1, 2), keepdims=True))
    maps = tf.where(deviation < 1e-9, 0.0, maps / (deviation * np.float32(np.sqrt(height * width))))
    spectra = tf.signal.rfft2d(tf.transpose(maps[0], (2, 0, 1)))
    first, second = np.triu_indices(MAPS)
    products = tf.gather(spectra, first) * tf.math.conj(tf.gather(spectra, second))
    correlations = tf.roll(tf.signal.irfft2d(products, (height, width)), (largest_lag, largest_lag), (1, 2))
    window = correlations[:, : 2 * largest_lag + 1, : 2 * largest_lag + 1]
    both = tf.concat([window, window[:, ::-1, ::-1]], 0)
    return tf.transpose(both, (1, 2, 0))[None]


def analyse(weights: Weights, image: tf.Tensor) -> tf.Tensor:
    """Blur kernel (85, 85) of an image (1, H, W, 3) in the range 0 to 1."""
    x = tf.reduce_sum(image * np.array([0.2989, 0.5870, 0.1140], np.float32), -1, keepdims=True)
    x -= tf.reduce_mean(x)
    x /= tf.sqrt(tf.reduce_mean(x**2) + 1e-7)
    lag, reduced = KERNEL_SIZE // 2, []
    for level in range(LEVELS):
        features = x
        for index in range(3):
            features = tf.nn.relu(
                weights.convolve(features, f"levels.{level}.features.{index}", padding="VALID")
            )
        maps = tf.nn.relu(weights.convolve(features, f"levels.{level}.projection"))
        reduced.append(tf.nn.relu(weights.convolve(correlate(maps, lag), f"levels.{level}.reduction")))
        lag = -(-lag // 2)
        if level + 1 < LEVELS:
            x = weights.convolve(x, f"down.{level}", stride=2)
    merged = reduced.pop()
    for level in reversed(range(LEVELS - 1)):
        finer = reduced.pop()
        raised = weights.transposed(merged, f"fusions.{level}.up", padding="VALID")
        side, start = finer.shape[1], merged.shape[1] + 1 - finer.shape[1] // 2
        cropped = raised[:, start : start + side, start : start + side]
        merged = tf.nn.relu(weights.convolve(tf.concat([finer, cropped], -1), f"fusions.{level}.join"))
    for index in range(4):
        merged = tf.nn.relu(weights.convolve(merged, f"head.{index}"))
    kernel = merged[0, :, :, 0]
    return kernel / (tf.reduce_sum(kernel) + 1e-7)


def guided_block(weights: Weights, x: tf.Tensor, kernel: tf.Tensor, name: str) -> tf.Tensor:
    """Three convolutions, each with its multiplier and its shift before the ReLU."""
    hidden = tf.reshape(kernel, (1, -1))
    for index in range(2):
        hidden = tf.nn.relu(weights.dense(hidden, f"{name}.guide.hidden.{index}"))
    for index in range(GUIDED):
        multiplier = weights.dense(hidden, f"{name}.guide.multipliers.{index}")
        multiplier += weights.arrays[f"{name}.guide.offsets.{index}"]
        shift = weights.dense(hidden, f"{name}.guide.shifts.{index}")
        convolved = weights.convolve(x, f"{name}.block.convolutions.{index}")
        x = tf.nn.relu(convolved * multiplier[:, None, None] + shift[:, None, None])
    return x


def synthesise(weights: Weights, image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Sharp image (1, H, W, 3) in the range 0 to 1."""
    x, skips = image * 255.0, []
    for level in range(SYNTHESIS_LEVELS):
        x = guided_block(weights, x, kernel, f"encoder.{level}")
        if level + 1 < SYNTHESIS_LEVELS:
            skips.append(x)
            x = weights.convolve(x, f"encoder.{level}.down", stride=2)
    for level in reversed(range(SYNTHESIS_LEVELS - 1)):
        name = f"decoder.{level}"
        raised = weights.transposed(x, f"{name}.up", padding="SAME")
        skip = weights.convolve(skips.pop(), f"{name}.skip")
        x = tf.nn.relu(weights.convolve(tf.concat([raised, skip], -1), f"{name}.merge"))
        x = guided_block(weights, x, kernel, name)
    return weights.convolve(x, "output") / 255.0


def part(weights: Weights, prefix: str) -> Weights:
    """The weights of one network, without its prefix."""
    selected = object.__new__(Weights)
    selected.arrays = {
        name.removeprefix(prefix): array for name, array in weights.arrays.items() if name.startswith(prefix)
    }
    return selected


def main() -> None:
    """Compute once, write, then answer requests with times."""
    weights_path, image_path, output_path = sys.argv[1:]
    weights, image = Weights(weights_path), tf.constant(np.load(image_path))
    analysis = tf.function(lambda x: analyse(part(weights, "analysis."), x))
    synthesis = tf.function(lambda x, k: synthesise(part(weights, "synthesis."), x, k))
    kernel = analysis(image)
    np.savez(output_path, kernel=kernel.numpy(), image=synthesis(image, kernel).numpy())
    stages: dict[str, Callable[[], tf.Tensor]] = {
        "analysis": lambda: analysis(image),
        "synthesis": lambda: synthesis(image, kernel),
    }
    print(json.dumps({"version": tf.__version__}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        stages[line.strip()]().numpy()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main()
