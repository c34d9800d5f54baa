"""Outputs of a run. Each has a module with one writer class; `table.py` lists them, `results.py` runs them."""
