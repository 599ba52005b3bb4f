"""Grammars for constrained decoding: the queries that a schema allows, for vLLM's `guidance`.

A SELECT list comes before the FROM that says whose columns may stand in it, so that a context-free
grammar of fixed rules would need one set of rules for each set of tables. Here rules carry a
parameter, in whose bits a query notes which tables its SELECT list owes to its FROM, and later
which tables its FROM holds (`state.py`). In the order of a query: `select`, `joins`, `clauses`.
"""

from server.grammar.build import grammar_of as grammar_of
from server.grammar.options import GrammarError as GrammarError
