"""BIDS datasets with known truth."""
