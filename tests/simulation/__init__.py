"""The deterministic simulation of execution: docs/simulation.md."""
