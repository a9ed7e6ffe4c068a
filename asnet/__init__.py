"""Removes motion blur from photographs with an analysis-synthesis pair of networks."""

__version__ = "0.1.0"
