"""`tradecore stream`: live trades and minute bars into the database, without a gap or a duplicate."""
