"""The only room that knows BIDS: what to read and what to write."""
