"""`python -m visionxl.training`: train the bundled prior, or go on where an earlier run stopped."""

from visionxl.training.train import main

if __name__ == "__main__":
    main()
