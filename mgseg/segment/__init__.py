"""Segmenting one clip: the Segmenter, the loop around it, its inputs and outputs."""
