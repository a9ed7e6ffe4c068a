"""How good an estimate is: image and blur-kernel metrics."""
