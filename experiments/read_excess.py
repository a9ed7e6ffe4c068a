"""Add to a weights file of `compact` the input that compares a photograph's power with the expected one.

    python experiments/read_excess.py OLD.safetensors NEW.safetensors

The weights of that input are 0, so before training the new network is equivalent to the old one.
"""

from extended_weights import run

if __name__ == "__main__":
    run(__doc__.splitlines()[0], "reads_excess", "extended")
