"""The entry point of `credits`: without the `cli` extra it says what to install."""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line and exit: 0 done, 1 refused, 2 unusable arguments or store."""
    missing = [name for name in ("typer", "rich", "pydantic_settings") if find_spec(name) is None]
    if missing:
        sys.exit(f"credits needs {', '.join(missing)}: pip install 'sparked-credits[all]'")
    from sparked_cli.commands import run

    sys.exit(run(sys.argv[1:]))
