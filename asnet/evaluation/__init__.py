"""Benchmarks and metrics for images and blur kernels."""
