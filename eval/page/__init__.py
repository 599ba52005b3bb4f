"""The report for people: one self-contained HTML page, made of a result's JSON alone."""
