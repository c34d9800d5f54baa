"""Faster forms of the network; all but int8 give the output of the plain form, up to rounding."""
