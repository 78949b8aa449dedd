"""A study: `driver.run` takes a configuration to its champion; the other files are its parts, in the order of use.

prepare (model, rows, encoded splits) -> search (ask, report, verdict) -> finish (test split, promotion, report).
"""
