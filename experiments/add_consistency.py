"""Add to a weights file of `compact` the last deconvolution, by which results fit the photograph.

    python experiments/add_consistency.py OLD.safetensors NEW.safetensors

Its damping starts at what suits the mean photograph with a known kernel; training fits it to the kernel.
"""

from extended_weights import run

if __name__ == "__main__":
    run(__doc__.splitlines()[0], "consistency", "extended")
