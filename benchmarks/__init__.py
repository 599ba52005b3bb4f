"""Speed of a server, measured over HTTP from outside; knows nothing of how the server is built."""
