"""`python -m tradecore`: see cli.py."""

from tradecore.cli import main

main()
