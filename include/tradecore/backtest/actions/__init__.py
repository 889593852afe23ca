"""Splits and dividends of a bar."""
