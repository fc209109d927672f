"""`python -m pagelab` is the command `pagelab`."""

from pagelab.commands.cli import main

if __name__ == "__main__":
    main()
