"""Training: the model, the optimiser, the loop, the checkpoint. The only room that knows torch and transformers.

Importing this package loads neither of them: configuration reads `hyperparameters` long before a tensor exists.
"""
