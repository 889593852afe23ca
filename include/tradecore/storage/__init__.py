"""Connections, named SQL and migrations: functions that take a connection."""
