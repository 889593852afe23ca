"""Research on the production code: the same step, folded over history."""
