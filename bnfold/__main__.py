"""`python -m bnfold`."""

from bnfold.command_line.main import main

main()
