"""Training on a CPU without what costs there as much as arithmetic: BERT's encoder by hand, weights in flat memory.

A step of the eager loop spends half its time on casts, on zeroing the gradient of an embedding most of whose rows do
not occur, on dropout's random numbers, on AdamW, and on autograd itself. Where a model is not known here, or does not
give the same gradients, training stays eager.
"""
