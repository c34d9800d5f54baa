"""Segmentation of a clip: the Segmenter, the loop over frames, the given masks, resuming."""
