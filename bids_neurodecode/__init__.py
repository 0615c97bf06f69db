"""bids_neurodecode: relates what people see to their fMRI, both ways, as a BIDS-App."""

from bids_neurodecode._version import __version__

__all__ = ['__version__']
