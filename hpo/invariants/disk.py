"""The study's folder: checkpoints that prove themselves, how many there are, and what should not lie about."""

from hpo.invariants.facts import Facts, Finding, Mend, broken, ok

REPAIR = "remove it with --repair, or go on with --resume"


def checkpoints(facts: Facts) -> Finding:
    """Every checkpoint's hashes agree with its manifest, and its score with the ledger's."""
    values = {own.checkpoint.name: own.value for own in (*facts.trials, *facts.runs) if own.checkpoint}
    wrong = [f"{name}: {own.wrong}" for name, own in facts.weights.items() if own.wrong and name in values]
    if wrong:
        remedy = "restore the folder from a backup; or remove it and go on with --resume, which trains it again"
        return broken("checkpoints", wrong, "every file is as its manifest says", remedy)
    others = [
        f"{name} says {own.value!r}, the ledger {values[name]!r}"
        for name, own in facts.weights.items()
        if values.get(name) is not None and own.value is not None and own.value != values[name]
    ]
    if others:
        rule = "a checkpoint holds the weights that earned its trial's value"
        return broken("checkpoints", others, rule, "remove the folder and go on with --resume")
    count = sum(name in values for name in facts.weights)
    return ok("checkpoints", f"{count} checkpoints, all files as their manifests say")


def strangers(facts: Facts) -> Finding:
    """Nothing lies among the checkpoints that no trial points to."""
    if facts.strangers:
        return broken("strangers", facts.strangers, "every checkpoint is of a finished trial", REPAIR, Mend.DISK)
    return ok("strangers", "nothing that no trial points to")


def retention(facts: Facts) -> Finding:
    """No more checkpoints than were asked for."""
    asked = f"{facts.keep} of the best within {facts.keep_bytes:,} bytes are kept, and those that are owed"
    if facts.surplus:
        return broken("retention", facts.surplus, asked, REPAIR, Mend.DISK)
    used = sum(own.bytes for own in facts.weights.values())
    return ok("retention", f"{len(facts.weights)} checkpoints, {used:,} bytes; {asked}")


def temporary(facts: Facts) -> Finding:
    """No half-written file is left."""
    if facts.temporary:
        return broken("temporary", facts.temporary, "no driver lives that would finish them", REPAIR, Mend.DISK)
    return ok("temporary", "no half-written files")
