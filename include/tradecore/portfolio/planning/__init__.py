"""From a decision to orders for the next bar."""
