"""What a person reads of a study: the screen while it runs, the closing words, the figures.

Everything comes from records. Must not know the ledger, MLflow or Ray.
"""
