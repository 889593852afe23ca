"""`python -m tradecore`: see cli/."""

from tradecore.cli import main

main()
