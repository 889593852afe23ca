"""A stand-in for Yahoo's price service: a program of its own that speaks its HTTP on loopback."""
