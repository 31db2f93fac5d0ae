"""``python -m nfproxy`` is the ``nfproxy`` command."""

from nfproxy.cli import run_main

if __name__ == "__main__":
    run_main()
