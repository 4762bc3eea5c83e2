"""``python -m latentbench`` is ``latentbench``."""

from latentbench.cli.main import main

if __name__ == "__main__":
    main()
