"""`python -m app.cli` is the `landcover` command."""

from app.cli import main

if __name__ == "__main__":
    main()
