"""The command ``tsa-fairseq``: one module a subcommand, which reads flags and says what was done.

It may use every room below; none of them knows of it.
"""
