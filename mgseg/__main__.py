"""`python -m mgseg`, which is also what torchrun starts."""

from mgseg.cli import main

if __name__ == "__main__":
    main()
