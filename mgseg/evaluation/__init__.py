"""Evaluation of a split: segmentation, scoring, protocols, report, zip files for the evaluation servers."""
