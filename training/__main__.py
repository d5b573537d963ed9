"""`python -m training`, for short `landcover-train`: from labeled imagery to a model file."""

from training.cli import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
