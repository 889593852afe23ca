"""How orders and brackets meet a bar."""
