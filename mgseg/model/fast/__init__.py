"""Faster forms of the network for inference; every one gives the same output as the plain form."""
