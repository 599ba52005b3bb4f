"""Quality: questions to a running server, scores with standard errors and a report out.

`eval.task` is the kernel that every package shares; the rest reaches the server only over HTTP.
"""
