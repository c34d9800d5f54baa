"""Datasets by name; training clips from stills and videos."""
