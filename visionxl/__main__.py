"Run as `python -m visionxl`."

import sys

from visionxl.app.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
