"""A stand-in for Alpaca: a program of its own that speaks its trading and data REST and its trade_updates stream."""
