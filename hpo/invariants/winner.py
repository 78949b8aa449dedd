"""The best checkpoint asked again, and the champion."""

from hpo.invariants.facts import Facts, Finding, Mend, broken, left_out, ok


def reevaluated(facts: Facts) -> Finding:
    """The best weights earn their score again: to the last bit on a CPU."""
    if not facts.again:
        return left_out("again", facts.not_again or "it was not asked for")
    wrong = [
        f"{own.name} scored {own.recorded!r}, and now {own.value!r}"
        for own in facts.again
        if not abs(own.recorded - own.value) <= own.tolerance
    ]
    if wrong:
        rule = f"the same weights on the same rows have the same {facts.metric}"
        return broken(
            "again", wrong, rule, "run it where the study ran; else remove the folder and go on with --resume"
        )
    listed = ", ".join(f"{own.name} {own.value:.6g}" for own in facts.again)
    exact = "to the last bit" if all(own.value == own.recorded for own in facts.again) else "within rounding"
    return ok("again", f"{facts.metric} of {listed}: the same {exact}")


def champion(facts: Facts) -> Finding:
    """The champion is where its alias is, loads, and met the one before it."""
    if facts.champion_wrong:
        remedy = "start MLflow, or name the store with --tracking-uri"
        return broken("champion", [facts.champion_wrong], "the champion can be looked at", remedy)
    own = facts.champion
    if own is None:
        return left_out("champion", "the study promotes nothing")
    if own.is_owed:
        remedy = f"look whether somebody deleted it: {own.command('history')}"
        return broken("champion", [f"{own.model} has no version of this study"], "what was promoted is there", remedy)
    if own.number is None:
        return ok("champion", f"{own.model} has none yet")
    if own.wrong:
        remedy = f"go back: {own.command('rollback')}"
        return broken("champion", [own.wrong], "the champion can be loaded as it was registered", remedy)
    if own.gaps:
        listed = [f"version {number}" for number in own.gaps]
        rule = "each champion met the one before it"
        return broken("champion", listed, rule, own.command("history"))
    if not own.is_at_rest:
        said = f"the alias is at version {own.alias}"
        rule = f"version {own.number} was promoted last"
        return broken("champion", [said], rule, "mend it with --repair", Mend.ALIAS)
    return ok("champion", f"{own.model}: version {own.number} loads, with the weights that were registered")
