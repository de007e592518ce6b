"""Long jobs of many independent items: what is done is written down, and items run here or on Ray.

``pool`` runs them, ``manifest`` keeps account.
"""
