"""`python -m mecha` is `mecha`."""

from mecha.cli.start import main

main()
