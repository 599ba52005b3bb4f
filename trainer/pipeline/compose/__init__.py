"""Makes new pairs of question and SQL on the schemas at hand, without any outside model."""
