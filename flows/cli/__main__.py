"""``python -m flows.cli``: the command without its script."""

from flows.cli.app import main

if __name__ == "__main__":
    main()
