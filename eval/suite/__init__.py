"""Generated databases that tell a gold query from its near misses (Zhong et al., EMNLP 2020)."""
