"""Vendors of market data in the place of the real ones: a program of its own, on loopback. See __main__."""
