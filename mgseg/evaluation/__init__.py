"""The parts of `mgseg.evaluate`: running a split, scoring files, protocols, the report, zips for the servers."""
