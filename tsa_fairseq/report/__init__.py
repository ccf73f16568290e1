"""Pages about finished runs: one HTML file that needs nothing else, and a model card.

Shows what ``evidence`` found out, and computes nothing that decides.
"""
