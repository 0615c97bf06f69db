"""``python -m bids_neurodecode``: the program, where its script is not on the path."""

import sys

from bids_neurodecode.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
