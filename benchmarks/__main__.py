"""``python -m benchmarks`` is ``latentbench``."""

from benchmarks.cli.main import main

if __name__ == "__main__":
    main()
