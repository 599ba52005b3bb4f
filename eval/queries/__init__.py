"""What queries are made of, and how two of them differ."""
