"""``python -m carina`` is the ``carina`` command."""

from carina.cli import main

if __name__ == "__main__":
    main()
