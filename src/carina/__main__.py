"""The ``carina`` command, and ``python -m carina``: the answer for one film, or the whole command line."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the ``carina`` script."""
    from carina.quick import request, score

    wanted = request(sys.argv[1:])
    if wanted is None:
        from carina.cli import main as command_line

        return command_line()
    from carina.errors import CarinaError

    try:
        return score(*wanted)
    except CarinaError as error:
        from carina.lines import printable

        print(f"carina: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("carina: stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
