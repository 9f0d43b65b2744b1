"""`python -m sparked_cli` is `credits`."""

from sparked_cli.main import main

main()
