"""``python -m pellucid``: the command line, where the script is not on the path."""

from pellucid.app.cli import main

if __name__ == "__main__":
    main()
