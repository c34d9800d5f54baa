"""Faster implementations of the network's layers. All except int8 give the same output, up to rounding."""
