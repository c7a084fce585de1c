"""Run the command line with `python -m bonesoup.cli`."""

from bonesoup.cli.main import main

main()
