"""``python -m nfproxy`` is the ``nfproxy`` command."""

from nfproxy.cli import main

if __name__ == "__main__":
    main()
