"""Operators of asnet: hand-written kernels behind plain functions on tensors."""
