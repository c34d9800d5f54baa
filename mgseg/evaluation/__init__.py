"""Evaluation of a split: running it, scoring files, protocols, the report, zips for the servers."""
