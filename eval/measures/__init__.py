"""What is said of one predicted query: each measure is a function of (predicted, gold, context)."""
