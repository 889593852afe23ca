"""From scores to targets for the next bar."""
