"""A stand-in for Alpaca's live data stream and its REST of past trades and bars, on loopback."""
