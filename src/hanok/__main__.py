"""`python -m hanok` is `hanok`."""

from hanok.cli import main

main()
