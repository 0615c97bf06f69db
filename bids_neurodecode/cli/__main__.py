"""``python -m bids_neurodecode.cli``: the program without its console script."""

import sys

from bids_neurodecode.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
