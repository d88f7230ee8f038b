"""`python -m mecha` is `mecha`."""

from mecha.cli.app import main

main()
