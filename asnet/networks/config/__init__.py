"""Configurations of the networks: topology, sizes, and their way to JSON and back."""
