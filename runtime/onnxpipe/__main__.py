"""`python -m onnxpipe`, for where the script is not on the path."""

import sys

from onnxpipe.cli import main

sys.exit(main())
