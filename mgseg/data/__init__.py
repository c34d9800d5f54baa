"""Datasets by name and training clips from stills and videos."""
