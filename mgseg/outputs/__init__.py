"""What a run writes. Each output is one file with one writer class; `table.py` lists them, `results.py` runs them."""
