"""The tests here import the modules beside them, as in a folder of a user's own."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
