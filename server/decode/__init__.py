"""How a question becomes SQL: decode, check, repair, score."""
